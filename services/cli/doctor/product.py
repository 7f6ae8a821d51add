"""Which product answers at an address: Latchkey, OpenClaw, or unknown. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTRIBUTION_REQUIRED: Final = b"proxy_attribution_required"
"""In the body of every 403 by which OpenClaw refuses an untrusted proxy."""
_LIVE: Final = {"ok": True, "status": "live"}
_RELEASE: Final = re.compile(r"\d{4}\.\d{1,2}\.\d+")
_BUILD: Final = re.compile(rb'data-openclaw-control-ui-build-id="(\d{4}\.\d{1,2}\.\d+)')


class Kind(StrEnum):
    """Kind of gateway."""

    LATCHKEY = "latchkey"
    OPENCLAW = "openclaw"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Product:
    """A product; `version` is empty if unknown."""

    kind: Kind
    version: str = ""

    @property
    def title(self) -> str:
        """Name and version, for people."""
        name = {Kind.LATCHKEY: "Latchkey", Kind.OPENCLAW: "OpenClaw"}.get(self.kind, "unknown")
        return f"{name} {self.version}".rstrip()


UNKNOWN: Final = Product(Kind.UNKNOWN)


def openclaw_readiness(readyz: bytes) -> bool | None:
    """Return `ready` from OpenClaw's `/readyz`, or None for any other page.

    Both products have `ready`, only Latchkey has `bootId`.
    """
    ready = _object(readyz).get("ready")
    return ready if isinstance(ready, bool) and "bootId" not in _object(readyz) else None


def is_openclaw_live(healthz: bytes) -> bool:
    """Return whether this is the `/healthz` of an OpenClaw gateway."""
    return _object(healthz) == _LIVE


def version_of_page(page: bytes) -> str:
    """Return the release named in a dashboard page; older ones do not name it."""
    found = _BUILD.search(page)
    return found[1].decode() if found else ""


def of_challenge(payload: Any) -> Product:
    """Recognise OpenClaw by the first frame: current releases announce capabilities there."""
    if isinstance(payload, dict) and isinstance(payload.get("capabilities"), list):
        return Product(Kind.OPENCLAW)
    return UNKNOWN


def of_hello(hello: Mapping[str, Any]) -> Product:
    """Recognise the product by hello-ok.

    OpenClaw's versions are dates; Latchkey's connection ids have a colon.
    """
    server = hello.get("server")
    if not isinstance(server, dict):
        return UNKNOWN
    version, connection = server.get("version"), server.get("connId")
    if not isinstance(version, str) or not isinstance(connection, str):
        return UNKNOWN
    if _RELEASE.match(version) and ":" not in connection:
        return Product(Kind.OPENCLAW, version)
    return UNKNOWN


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}
