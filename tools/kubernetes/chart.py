"""The Helm chart: where it is, how it is rendered, and the schema of its settings."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import yaml  # type: ignore[import-untyped]

from deploy.local.places import ROOT
from services.approval import settings as approval
from services.gateway import settings as gateway
from shared.settings.declarations import AnySetting, Choice, Number, Secret, Setting, plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHART: Final = ROOT / "deploy" / "kubernetes" / "latchkey"
SCHEMA: Final = CHART / "values.schema.json"
HELM_SECONDS: Final = 60

SET_BY_THE_CHART: Final = {
    "gateway": {"PORT", "OPS_PORT", "TRUSTED_PROXIES", "GATEWAY_PUBLIC_URL", "APPROVAL_PUBLIC_URL"}
    | {"DRAIN_SECONDS", "UPSTREAM_URL", "REDIS_URL"},
    "approval": {"PORT", "OPS_PORT", "TRUSTED_PROXIES", "GATEWAY_PUBLIC_URL"}
    | {"APPROVAL_PUBLIC_URL", "REDIS_URL"},
}
"""Settings that have values of their own, beside all secrets."""
LEFT_OUT: Final = {
    "HOST": "the image sets it",
    "GATEWAY_REUSE_PORT": "each gateway has an address of its own",
    "CONTROL_UI_DIR": "it names a directory, and the image holds no dashboard",
    "GATEWAY_LOCAL_CLIENTS": "no client runs in a gateway's pod",
}
"""Settings that make no sense in a cluster, and why."""
_DECLARED: Final[Mapping[str, tuple[AnySetting, ...]]] = {
    "gateway": gateway.ALL,
    "approval": approval.ALL,
}


class HelmFailed(Exception):
    """Helm rejected the chart or its values."""


def is_secret(setting: AnySetting) -> bool:
    """Return whether the value is or contains a secret."""
    return isinstance(setting, Secret) or (isinstance(setting, Setting) and setting.secret)


def optional_secrets(service: str) -> list[str]:
    """Return the secrets that `values.yaml` takes in `<service>.optionalSecrets`."""
    return [
        setting.name
        for setting in _DECLARED[service]
        if isinstance(setting, Setting) and setting.secret and not setting.required
    ]


def free_settings(service: str) -> list[AnySetting]:
    """Return the settings that `values.yaml` takes under `<service>.settings`."""
    return [
        setting
        for setting in _DECLARED[service]
        if not is_secret(setting)
        and setting.name not in SET_BY_THE_CHART[service]
        and setting.name not in LEFT_OUT
    ]


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema by which Helm checks the settings among the values."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Generated from the code by `make docs`. Do not edit.",
        "type": "object",
        "properties": {
            service: {
                "type": "object",
                "properties": {
                    "settings": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {one.name: _schema(one) for one in free_settings(service)},
                    },
                    "optionalSecrets": {"items": {"enum": optional_secrets(service)}},
                    **(
                        {"drainSeconds": _schema(gateway.DRAIN_SECONDS)}
                        if service == "gateway"
                        else {}
                    ),
                },
            }
            for service in _DECLARED
        },
    }


def schema_text() -> str:
    """Return the file's content."""
    return json.dumps(settings_schema(), indent=2) + "\n"


def _schema(setting: AnySetting) -> dict[str, Any]:
    if isinstance(setting, Number):
        bounds = {"minimum": setting.least, "maximum": setting.most}
        described = f"{setting.name}: {plain(setting.least)} to {plain(setting.most)}"
        return {"type": "number", **bounds, "description": described}
    if isinstance(setting, Choice):
        return {"enum": list(setting.allowed)}
    return {"type": "string"}


def render(
    helm: Path, values: Mapping[str, Any], *, name: str = "latchkey"
) -> list[dict[str, Any]]:
    """Return the objects that the chart makes of the values; raises HelmFailed."""
    command = [str(helm), "template", name, str(CHART), "--values", "-"]
    done = _run(command, json.dumps(values))
    return [found for found in yaml.safe_load_all(done) if found]


def lint(helm: Path, values: Mapping[str, Any]) -> str:
    """Return what `helm lint --strict` prints; raises HelmFailed."""
    return _run([str(helm), "lint", "--strict", str(CHART), "--values", "-"], json.dumps(values))


def _run(command: list[str], given: str) -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=HELM_SECONDS, check=False
    )
    if done.returncode != 0:
        raise HelmFailed(done.stdout + done.stderr)
    return done.stdout
