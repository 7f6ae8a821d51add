"""An OpenClaw of its own behind `make run UPSTREAM=openclaw`: configured, started, checked.

`make` has installed it, with a Node.js, below `.data`; its state is in the run's data directory.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from deploy.local.errors import OpenClawUnusable
from deploy.local.places import OPENCLAW_PACKAGE, ROOT, shown
from deploy.local.ports import HOST
from deploy.local.programs.supervisor import Program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIMEOUT_SECONDS: Final = 3.0
_FIXED: Final = {
    "OPENCLAW_NO_AUTO_UPDATE": "1",  # the installed release is the one that was tested
    "OPENCLAW_NO_RESPAWN": "1",  # so that it ends with the run
}
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TERM", "TMPDIR", "SSL_CERT_FILE", "TZ")
_EXTENDED: Final = frozenset({"allowedOrigins", "trustedProxies"})
"""Lists that keep what the user added. All other settings of ours are replaced: with other headers
or users than its own, Latchkey would not work, or would not be safe."""
_KEYS: Final = "_API_KEY"
"""Suffix of the environment variables that hold model providers' keys."""


class OpenClaw:
    """One OpenClaw on loopback. Only gateways with UPSTREAM_SECRET can use it."""

    def __init__(self, directory: Path, port: int, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._port = port
        self._environ = environ
        self.url: Final = f"ws://{HOST}:{port}"

    @property
    def command(self) -> Path:
        """A script that runs `openclaw` with this OpenClaw's state and configuration."""
        return self._directory / "openclaw"

    def configure(self, secret: str, origins: Sequence[str]) -> None:
        """Write the settings that Latchkey needs into openclaw.json, and keep all others.

        Entries that an earlier run added to lists are removed if they are no longer needed.

        Raises OpenClawUnusable.
        """
        if not _node().is_file():
            raise OpenClawUnusable(
                "it is not installed; start it with `make run UPSTREAM=openclaw`, which installs it"
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / "openclaw.json"
        settings = _read(file)
        auth = settings.setdefault("gateway", {}).setdefault("auth", {})
        auth.pop("token", None)
        ours = _wanted(secret, origins)
        if "password" in auth:
            del ours["gateway"]["auth"]["password"]
        added = self._directory / "added-by-make-run.json"
        _merge(settings, ours, added_before=_read(added))
        _write_private(file, json.dumps(settings, indent=2) + "\n", 0o600)
        _write_private(added, json.dumps(_lists(ours)) + "\n", 0o600)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self._own().items()]
        program = shlex.join([str(_node()), str(_script())])
        _write_private(
            self.command, "\n".join(["#!/bin/sh", *lines, f'exec {program} "$@"', ""]), 0o700
        )

    def program(self, log: Path) -> Program:
        """Return the program that serves it."""
        passed_on = {
            name: value
            for name, value in self._environ.items()
            if name in _PASSED_ON or name.endswith(_KEYS)
        }
        return Program(
            name="openclaw",
            command=[str(_node()), str(_script()), "gateway", "run", "--port", str(self._port)],
            env={**passed_on, **self._own()},
            log=log,
        )

    def trouble(self) -> str:
        """Return why it does not accept connections yet, or an empty string."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/startupz")
            said = connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return "OpenClaw does not answer yet"
        finally:
            connection.close()
        return "" if b'"started"' in said else "OpenClaw is starting"

    def _own(self) -> dict[str, str]:
        return {
            **_FIXED,
            "HOME": str(self._directory),
            "OPENCLAW_STATE_DIR": str(self._directory / "state"),
            "OPENCLAW_CONFIG_PATH": str(self._directory / "openclaw.json"),
            "OPENCLAW_GATEWAY_PORT": str(self._port),
            "NODE_COMPILE_CACHE": str(self._directory / "compiled"),
        }


def _node() -> Path:
    return OPENCLAW_PACKAGE / "node_modules" / ".bin" / "node"


def _script() -> Path:
    return OPENCLAW_PACKAGE / "node_modules" / "openclaw" / "openclaw.mjs"


def _wanted(secret: str, origins: Sequence[str]) -> dict[str, Any]:
    """Return what `latchkey upstream config` prints for gateways on this machine."""
    command = [sys.executable, "-m", "services.cli", "upstream", "config", "--json"]
    done = subprocess.run(
        [*command, *(f"--origin={origin}" for origin in origins)],
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", ""), "UPSTREAM_SECRET": secret},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OpenClawUnusable(f"`latchkey upstream config` failed: {done.stdout or done.stderr}")
    wanted: dict[str, Any] = json.loads(done.stdout)
    return wanted


def _read(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OpenClawUnusable(f"{shown(file)} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise OpenClawUnusable(f"{shown(file)} is not a JSON object")
    return settings


def _lists(ours: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return those of our lists to which a user may add, by name."""
    gateway = ours["gateway"]
    return {
        "allowedOrigins": gateway["controlUi"]["allowedOrigins"],
        "trustedProxies": gateway["trustedProxies"],
    }


def _merge(
    into: dict[str, Any], ours: Mapping[str, Any], *, added_before: Mapping[str, Any]
) -> None:
    """Set our values. Tables are merged, some lists keep the user's entries; the rest is replaced.

    An entry of `added_before` is not the user's.
    """
    for name, value in ours.items():
        held = into.get(name)
        if isinstance(value, dict) and isinstance(held, dict):
            _merge(held, value, added_before=added_before)
        elif name in _EXTENDED and isinstance(held, list):
            others = [*value, *added_before.get(name, ())]
            into[name] = [*value, *(entry for entry in held if entry not in others)]
        else:
            into[name] = value


def _write_private(file: Path, text: str, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as out:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            os.fchmod(descriptor, mode)
        out.write(text)
