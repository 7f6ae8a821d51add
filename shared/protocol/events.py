"""The events that the gateway sends (contract §2, §11)."""

from __future__ import annotations

from typing import Final

from shared.protocol.frames import event

TICK: Final = "tick"


def challenge(nonce: str, wall_ms: int) -> bytes:
    """Encode `connect.challenge`; the nonce is this connection's, `wall_ms` our clock."""
    return (
        f'{{"type":"event","event":"connect.challenge",'
        f'"payload":{{"nonce":"{nonce}","ts":{wall_ms}}}}}'
    ).encode()


def tick(wall_ms: int, seq: int) -> bytes:
    """Encode `tick`."""
    return event(TICK, {"ts": wall_ms}, seq)
