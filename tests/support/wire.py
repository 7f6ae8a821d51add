"""Test vectors and transcripts recorded from the original (tests/data/wire)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).parent.parent / "data" / "wire"

VECTORS: Final[dict[str, Any]] = json.loads((_FOLDER / "vectors.json").read_text())


@dataclass(frozen=True, slots=True)
class Attempt:
    """One recorded connection attempt that was refused."""

    name: str
    nonce: str
    ts: int
    connect: dict[str, Any]
    answer: dict[str, Any]
    close_code: int
    close_reason: str

    def __str__(self) -> str:
        return self.name


def transcript(name: str) -> list[dict[str, Any]]:
    """Return the lines of a transcript."""
    lines = (_FOLDER / "transcripts" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _attempts_of(path: Path) -> list[Attempt]:
    lines = transcript(path.stem)
    found = []
    for number in sorted({line["conn"] for line in lines if "conn" in line}):
        own = [line for line in lines if line.get("conn") == number]
        frames = [line["frame"] for line in own if line["kind"] == "frame"]
        close = next(line for line in own if line["kind"] == "close")
        challenge, connect, answer = frames
        found.append(
            Attempt(
                f"{path.stem}:{number}",
                challenge["payload"]["nonce"],
                challenge["payload"]["ts"],
                connect,
                answer,
                close["code"],
                close["reason"],
            )
        )
    return found


ATTEMPTS: Final = [
    attempt
    for path in sorted((_FOLDER / "transcripts").glob("*.jsonl"))
    for attempt in _attempts_of(path)
]
"""Every recorded attempt of all transcripts."""
