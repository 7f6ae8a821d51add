"""Secrets in files: `BUS_SECRET_FILE` names a file with the value of `BUS_SECRET`.

Docker and Kubernetes mount secrets as files, so that they do not appear in the environment of a
process. Files are read once, at start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUFFIX: Final = "_FILE"
FILE_MAX_BYTES: Final = 65_536
"""Maximum size of a file with a secret."""


def read_secret_files(
    environ: Mapping[str, str], names: Iterable[str]
) -> tuple[Mapping[str, str], list[str]]:
    """Return the environment with the values in place of the files' names, and the problems.

    No problem quotes the content of a file.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    for name in names:
        path = environ.get(name + SUFFIX, "").strip()
        if not path:
            continue
        if environ.get(name, "").strip():
            problems.append(f"{name} and {name}{SUFFIX} are both set: remove one of them")
            continue
        value, problem = _read(path)
        if problem:
            problems.append(f"{name}{SUFFIX}={_shown(path)}: {problem}")
        else:
            values[name] = value
    if not values:
        return environ, problems
    read = {name + SUFFIX for name in values}
    left = {name: value for name, value in environ.items() if name not in read}
    return left | values, problems


def _read(path: str) -> tuple[str, str]:
    """Return the value in a file, or an empty one and the problem."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a file name"
        return "", f"the file cannot be read ({reason})"
    if len(content) > FILE_MAX_BYTES:
        return "", f"the file is larger than {FILE_MAX_BYTES} bytes"
    try:
        value = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return "", "the file must be text in UTF-8"
    if not value.strip():
        return "", "the file is empty"
    if not value.isprintable():
        return "", "the file must contain one line, without control characters"
    return value, ""


def _shown(path: str) -> str:
    return path.encode("ascii", "backslashreplace").decode()
