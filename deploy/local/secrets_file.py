"""The secrets file: NAME=value lines, generated once, readable only by its owner.

Values from the environment take precedence and are not written. There is no quoting or escaping.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from deploy.local.errors import SecretsFileBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

OWNER_ONLY: Final = 0o600
SECRET_BYTES: Final = 32
HEADER: Final = "# Generated once. To get a new value at the next start, remove its line.\n"


def load_secrets(path: Path, environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return a value for every name: from the environment, the file, or generated and written.

    Raises SecretsFileBroken.
    """
    stored = _read(path)
    found: dict[str, str] = {}
    made: dict[str, str] = {}
    for name in names:
        found[name] = environ.get(name, "").strip() or stored.get(name, "")
        if not found[name]:
            found[name] = made[name] = secrets.token_hex(SECRET_BYTES)
    if made:
        _add(path, made)
    elif stored:
        path.chmod(OWNER_ONLY)
    return found


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise SecretsFileBroken(path, error.object[: error.start].count(b"\n") + 1) from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise SecretsFileBroken(path, number)
        found[name.strip()] = value.strip()
    return found


def _add(path: Path, made: Mapping[str, str]) -> None:
    """Append lines atomically, never readable by others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.exists() else HEADER
    if not text.endswith("\n"):
        text += "\n"
    text += "".join(f"{name}={value}\n" for name, value in made.items())
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
