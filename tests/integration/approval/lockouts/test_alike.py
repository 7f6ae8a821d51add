"""Right and wrong secrets are indistinguishable without a counted failure.

Tested end to end: the gateway's handshake, then approval over Redis.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.lockout import FAILURES_LIMIT, LOCK_MS
from services.approval.storage.keys import guard_key, wrong_values_key
from services.gateway.handshake.outcome import Accepted
from shared.device.profile import CLI, CLI_3, CONTROL_UI, NODE_HOST, REFERENCE, Profile
from shared.protocol.refusals import Refusal
from shared.rpc.messages import (
    BOOTSTRAP_TOKEN,
    DEVICE_TOKEN,
    SHARED_SECRET,
    AuthorizeDevice,
    NeedsPairing,
    ReportSecret,
    decode_answer,
    encode,
)
from shared.rpc.responder import Question
from tests.support.attempts import (
    BROWSER,
    KEY,
    NOW_MS,
    REMOTE,
    TOKEN,
    client_view,
    connect,
    new_handshake,
    question_of,
    to_bytes,
)
from tests.support.callbacks import result_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.device.identity import DeviceKey
    from tests.integration.approval.replica import Replica

SLOW_MS: Final = 20_000
"""Time that a loaded machine may take between two attempts."""
WRONG: Final = "w" * len(TOKEN)
PROFILES: Final = (CLI, CLI_3, NODE_HOST, CONTROL_UI, REFERENCE)
GATEWAY_FIELDS: Final = (("token",), ("password",), ("token", "password"))
OTHERS: Final = {SHARED_SECRET: (DEVICE_TOKEN, BOOTSTRAP_TOKEN), DEVICE_TOKEN: (SHARED_SECRET,)}
LONG_MS: Final = LOCK_MS - SLOW_MS
SHORT_MS: Final = LOCK_MS // 2


@dataclass(frozen=True)
class Pair:
    """Two attempts that differ only in whether one secret is right."""

    profile: Profile
    key: DeviceKey | None
    right: dict[str, str]
    wrong: dict[str, str]


@dataclass
class Way:
    """Sends attempts from one address through gateway and approval."""

    replica: Replica
    device_token: str = ""
    attempts: int = 0

    def __post_init__(self) -> None:
        server = self.replica
        self._questions = server.dispatcher

    async def pair(self) -> None:
        """Pair the command line's device and store its token."""
        question = question_of(connect(CLI))
        waiting = await self.replica.answer(question)
        assert isinstance(waiting, NeedsPairing)
        await self.replica.registry.approve(OPERATOR, waiting.request_id)
        question = msgspec.structs.replace(question, call_id="boot:8")
        self.device_token = (await self.replica.admit(question)).device_token

    async def hold(self, locks: dict[str, int]) -> None:
        """Set exactly these locks on the address, each for this many ms.

        No wrong value is known.
        """
        seconds, micros = await self.replica.redis.time()
        now_ms = seconds * 1000 + micros // 1000
        await self._keep({name: (0, now_ms, now_ms + left) for name, left in locks.items()})

    async def fail(self, failures: int) -> None:
        """Set exactly this many gateway token failures for the address."""
        seconds, micros = await self.replica.redis.time()
        now_ms = seconds * 1000 + micros // 1000
        await self._keep({SHARED_SECRET: (failures, now_ms, 0)})

    async def _keep(self, held: dict[str, tuple[int, int, int]]) -> None:
        key = guard_key(REMOTE.address)
        await self.replica.store.client.set(key, msgspec.msgpack.encode(held))
        await self.replica.store.client.delete(wrong_values_key(REMOTE.address))
        self.replica.store.lockouts.known.clear()

    async def failures(self, name: str) -> int:
        """Return the address's number of failures in this class."""
        value = await self.replica.store.client.get(guard_key(REMOTE.address))
        held = msgspec.msgpack.decode(value) if value else {}
        return int(held[name][0]) if name in held else 0

    async def answer_to(self, pair: Pair, secrets: dict[str, str]) -> tuple[Any, int]:
        """Return the client's answer to these secrets, and its retry time (ms)."""
        self.attempts += 1
        peer = BROWSER if pair.profile is CONTROL_UI else REMOTE
        handshake = new_handshake(peer, connection_id=f"way:{self.attempts}")
        beside: dict[str, Any] = dict(secrets)
        token = beside.pop("token", None)
        frame = connect(pair.profile, key=pair.key, token=token, **beside)
        effect: Any = handshake.on_frame(to_bytes(frame), now_ms=NOW_MS)
        if isinstance(effect, ReportSecret | AuthorizeDevice):
            asked_now = Question("gateway", msgspec.Raw(encode(effect)))
            (reply,) = await result_of(self._questions.dispatch, asked_now)
            if isinstance(reply, asyncio.Future):
                reply = await reply
            assert isinstance(reply, bytes)
            effect = handshake.on_answer(decode_answer(reply))
        if isinstance(effect, Accepted):
            return effect.grant, 0
        assert isinstance(effect, Refusal)
        error, *closing = client_view(effect)
        assert error is not None
        error["details"].pop("connectionId")
        return (error, closing), error.pop("retryAfterMs", 0)

    def pairs(self, text: str) -> Iterator[Pair]:
        """Yield all combinations of client and fields, with a secret of this class."""
        secrets = self._gateway_tokens if text == SHARED_SECRET else self._device_tokens
        for profile in PROFILES:
            for key in (KEY, None):
                yield from (Pair(profile, key, right, wrong) for right, wrong in secrets())

    def _gateway_tokens(self) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        for beside in self._beside("device_token", WRONG, "another", self.device_token):
            for fields in GATEWAY_FIELDS:
                yield dict.fromkeys(fields, TOKEN) | beside, dict.fromkeys(fields, WRONG) | beside

    def _device_tokens(self) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        for name in ("token", "password"):
            for beside in self._beside(name, TOKEN, WRONG):
                yield {"device_token": self.device_token} | beside, {"device_token": "no"} | beside

    def _beside(self, name: str, *values: str) -> Iterator[dict[str, str]]:
        for more in ({}, *({name: value} for value in values)):
            yield more
            yield {**more, "bootstrap_token": "b"}


@pytest.fixture
async def way(here: Replica) -> Way:
    await here.store.liveness.write_alive("here")
    way = Way(here)
    await way.pair()
    return way


@pytest.mark.parametrize("text", [SHARED_SECRET, DEVICE_TOKEN])
@pytest.mark.parametrize("others_ms", [0, SHORT_MS, LOCK_MS], ids=["alone", "shorter", "longer"])
async def test_while_locked_out_right_and_wrong_are_answered_alike(
    way: Way, text: str, others_ms: int
) -> None:
    """The retry times are equal too, although other locks have other durations."""
    locks = {text: (SHORT_MS + LONG_MS) // 2}
    locks |= dict.fromkeys(OTHERS[text], others_ms) if others_ms else {}
    for pair in way.pairs(text):
        answers = []
        for secrets in (pair.right, pair.wrong):
            await way.hold(locks)
            answers.append(await way.answer_to(pair, secrets))
        (right, right_ms), (wrong, wrong_ms) = answers
        assert right == wrong, pair
        assert abs(right_ms - wrong_ms) < SLOW_MS, pair


@pytest.mark.parametrize("text", [SHARED_SECRET, DEVICE_TOKEN])
@pytest.mark.parametrize("locked", [False, True], ids=["no lock", "others locked"])
async def test_a_wrong_secret_that_is_distinguishable_is_counted(
    way: Way, text: str, *, locked: bool
) -> None:
    """Other locked classes of secrets make no difference."""
    locks = dict.fromkeys(OTHERS[text], LOCK_MS) if locked else {}
    apart = 0
    for pair in way.pairs(text):
        await way.hold(locks)
        right, _ = await way.answer_to(pair, pair.right)
        await way.hold(locks)
        wrong, _ = await way.answer_to(pair, pair.wrong)
        if right != wrong:
            apart += 1
            assert await way.failures(text) == 1, pair
    assert apart > 10


@pytest.mark.parametrize("profile", [CLI, CONTROL_UI, REFERENCE], ids=["cli", "page", "program"])
@pytest.mark.parametrize("key", [KEY, None], ids=["device", "no device"])
@pytest.mark.parametrize("device_token", ["right", "wrong", "none"])
async def test_no_attempt_tells_of_more_guesses_than_are_left(
    way: Way, profile: Profile, key: DeviceKey | None, device_token: str
) -> None:
    """With one guess left, an attempt with two does not reveal whether one of them is right."""
    tokens = {"right": way.device_token, "wrong": "no", "none": ""}
    beside = {"device_token": tokens[device_token]} if tokens[device_token] else {}
    answers = []
    for first, second in ((TOKEN, WRONG), (WRONG, TOKEN), (WRONG, "v" * len(TOKEN))):
        await way.fail(FAILURES_LIMIT - 1)
        secrets = {"token": first, "password": second, **beside}
        answers.append(await way.answer_to(Pair(profile, key, secrets, secrets), secrets))
    told_first, first_ms = answers[0]
    for answer, answer_ms in answers[1:]:
        assert answer == told_first
        assert abs(answer_ms - first_ms) < SLOW_MS


async def test_two_guesses_that_both_fit_are_answered(way: Way) -> None:
    await way.fail(FAILURES_LIMIT - 2)
    secrets = {"token": WRONG, "password": TOKEN}
    right, _ = await way.answer_to(Pair(CLI, KEY, secrets, secrets), secrets)
    assert right.method == "token"
