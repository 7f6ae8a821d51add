"""The command's persistent state: the device's key and tokens, in one file of mode 600."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from shared.device.identity import SEED_BYTES, DeviceKey
from shared.protocol.signing import decode_base64, encode_base64

if TYPE_CHECKING:
    from pathlib import Path

_VERSION: Final = 1


class StateError(Exception):
    """A state file that is invalid or cannot be written; the message says what to do."""


class _Stored(msgspec.Struct, rename="camel"):
    version: int
    device_id: str
    public_key: str
    private_key: str
    tokens: dict[str, dict[str, str]] = {}


@dataclass(slots=True)
class DeviceState:
    """A key, and the newest device token for each gateway address and role."""

    key: DeviceKey
    _tokens: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def token(self, url: str, role: str) -> str | None:
        """Return the device token for a role at a gateway."""
        return self._tokens.get(url, {}).get(role)

    def keep_token(self, url: str, role: str, token: str) -> None:
        """Store the newest device token; an empty one deletes the stored one."""
        tokens = self._tokens.setdefault(url, {})
        tokens.pop(role, None)
        if token:
            tokens[role] = token

    def save(self, path: Path) -> None:
        """Write the file, readable by its owner only; raises StateError."""
        stored = _Stored(
            version=_VERSION,
            device_id=self.key.device_id,
            public_key=self.key.public_key,
            private_key=encode_base64(self.key.seed),
            tokens=self._tokens,
        )
        content = msgspec.json.format(msgspec.json.encode(stored)) + b"\n"
        new = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            new.replace(path)
        except OSError as error:
            raise StateError(
                f"cannot write {path} ({error.strerror}): name a writable file with --state"
            ) from error


def load(path: Path) -> DeviceState:
    """Read the file, or create a device and write it; raises StateError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        state = DeviceState(DeviceKey.generate())
        state.save(path)
        return state
    except OSError as error:
        raise StateError(
            f"cannot read {path} ({error.strerror}): name another file with --state"
        ) from error
    try:
        stored = msgspec.json.decode(content, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError):
        stored = None
    seed = decode_base64(stored.private_key) if stored else None
    if stored is None or stored.version != _VERSION or seed is None or len(seed) != SEED_BYTES:
        raise StateError(f"{path} holds no device; move it away to start as a new one")
    return DeviceState(DeviceKey.from_seed(seed), stored.tokens)


def secret_from(path: Path, name: str) -> str | None:
    """Return the first value of a secret from a file of `NAME=value` lines; None if missing."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        found, _, value = line.partition("=")
        if found.strip() == name:
            return first_of(value)
    return None


def first_of(value: str) -> str | None:
    """Return the first of a comma list of secrets, which is the one to use."""
    return next((part for each in value.split(",") if (part := each.strip())), None)
