"""One connection of a load test, from the upgrade to the end; reports to its owner."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from tools.load.client.verdicts import Answer, Broken, Outcome, judge, read_answer, read_challenge
from tools.load.client.wire import (
    CLOSE,
    HEAD_END,
    HEAD_LIMIT_BYTES,
    PING,
    PONG,
    TEXT,
    BrokenFrame,
    close_frame,
    control_frame,
    read_close,
    read_frame,
    upgrade_problem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.load.client.devices import LoadDevice

_NORMAL = close_frame(1000)


class Owner(Protocol):
    """Opens connections and is notified of their results."""

    upgrade: bytes
    """The bytes sent first."""

    def admitted(self, session: Session) -> None:
        """Handle an admission; `session.leave()` closes the connection."""
        ...

    def ended(self, session: Session) -> None:
        """Handle the end of a session; called once."""
        ...


class Session(asyncio.Protocol):
    """One attempt to connect, and the resulting connection.

    `began` is the intended start, `decided` when the gateway's response arrived (0: never),
    `over_at` when its close frame arrived, or else the end; all by time.monotonic().
    """

    __slots__ = (
        "_buffer",
        "_challenged",
        "_closing",
        "_over",
        "_owner",
        "_transport",
        "_upgraded",
        "answer",
        "began",
        "close",
        "decided",
        "device",
        "opening",
        "over_at",
        "phase",
        "problem",
        "slot",
    )

    def __init__(
        self, owner: Owner, device: LoadDevice, began: float, *, phase: int = 0, slot: int = 0
    ) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._upgraded = False
        self._challenged = False
        self._closing = False
        self._over = False
        self.opening: asyncio.Task[object] | None = None
        self.device = device
        self.began = began
        self.phase = phase
        self.slot = slot
        self.decided = 0.0
        self.over_at = 0.0
        self.answer: Answer | None = None
        self.close: tuple[int, str] | None = None
        self.problem = ""

    @property
    def outcome(self) -> Outcome:
        """The outcome of the attempt."""
        return judge(
            approved=self.device.approved,
            answer=self.answer,
            close=self.close,
            problem=self.problem,
        )

    def leave(self) -> None:
        """Start a normal close; the end is reported later."""
        self._send_close(_NORMAL)

    def give_up(self, problem: str) -> None:
        """Abort the connection."""
        self.problem = self.problem or problem
        if self._transport is not None:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def not_opened(self, problem: str) -> None:
        """Handle a failure to connect."""
        self.problem = self.problem or problem
        self._end()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is a Transport for streams
        self._transport.write(self._owner.upgrade)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at = 0
        if not self._upgraded:
            at = data.find(HEAD_END) + len(HEAD_END)
            if at < len(HEAD_END):
                self._buffer = data
                if len(data) > HEAD_LIMIT_BYTES:
                    self.give_up("no end of the HTTP head")
                return
            if problem := upgrade_problem(data[:at], data[at:]):
                self.give_up(problem)
                return
            self._upgraded = True
        try:
            while (frame := read_frame(data, at)) is not None:
                at = frame.end
                self._take(frame.opcode, frame.payload)
        except BrokenFrame as error:
            self.give_up(f"a frame {error}")
            return
        except Broken as error:
            self.give_up(str(error))
            return
        self._buffer = data[at:]

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and not self.problem:
            self.problem = type(error).__name__
        self._end()

    # Internals.

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._take_text(payload)
        elif opcode == CLOSE:
            self.close = read_close(payload)
            self.over_at = time.monotonic()
            self._send_close(control_frame(CLOSE, payload[:2]))
        elif opcode == PING:
            self._write(control_frame(PONG, payload))

    def _take_text(self, payload: bytes) -> None:
        if not self._challenged:
            challenge = read_challenge(payload)
            self._challenged = True
            self._write(self.device.connect(challenge.nonce, challenge.ts))
        elif self.answer is None:
            self.answer = read_answer(payload)
            if self.answer is not None:
                self.decided = time.monotonic()
                if self.answer.ok:
                    self._owner.admitted(self)

    def _send_close(self, frame: bytes) -> None:
        if not self._closing:
            self._closing = True
            self._write(frame)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self.over_at = self.over_at or time.monotonic()
            self._owner.ended(self)


def give_up_overdue(sessions: Iterable[Session], before: float) -> None:
    """Give up those that began before this time; `sessions` are in the order of their begin."""
    for session in list(sessions):
        if session.began > before:
            break
        session.give_up("timed out")
