"""Forged answers are not accepted, however plausible they look."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bus import counters
from shared.bus.channels import inbox_channel
from shared.bus.envelope import Envelope
from shared.bus.errors import Rejected, Unavailable
from shared.rpc.codec import QUESTIONS_PER_MESSAGE, Item, ItemAnswer, encode
from shared.rpc.requester import DEADLINE_SECONDS
from tests.support.clock import FakeClock, outcome, run_virtual, turns
from tests.unit.rpc.fake_bus import Approval, Gateway

YES = msgspec.Raw(encode("admitted"))


async def waiting_question(gateway: Gateway) -> tuple[asyncio.Task[object], Item]:
    """Send a request that the only responder leaves open."""
    approval = gateway.approvals[0]
    approval.manner = approval.silent
    task = asyncio.create_task(gateway.ask("may I come in"))
    await turns()
    return task, approval.asked[0][0]


async def refused(gateway: Gateway, task: asyncio.Task[object]) -> None:
    """Check that the request is still open, and that a valid answer is accepted."""
    await turns()
    assert not task.done()
    approval = gateway.approvals[0]
    approval.answer(gateway.boot_id, approval.asked[0])
    assert await task == ["may I come in", approval.boot_id]


class TestForgedAnswers:
    def test_an_answer_from_a_replica_that_was_not_asked_is_dropped(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, item = await waiting_question(gateway)
            Approval(gateway.board, "other").reply(
                gateway.boot_id, [ItemAnswer(item.id, "ok", YES)]
            )
            await refused(gateway, task)
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "stranger"] == 1

        run_virtual(scenario)

    def test_the_wrong_seal_or_channel_never_reaches_the_requester(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, item = await waiting_question(gateway)
            channel = inbox_channel(gateway.boot_id)
            body = encode([[[item.id, "ok", YES]]])
            stranger = Envelope(["not the secret of this installation"], "approval-0")
            forged = [
                stranger.seal(channel, body),
                gateway.approvals[0].envelope.seal(inbox_channel("another"), body),
                gateway.envelope.seal(channel, body),
                body,
                bytes(10 * 1024 * 1024),
            ]
            for data in forged:
                with pytest.raises(Rejected):
                    gateway.envelope.open(channel, data)
            await refused(gateway, task)

        run_virtual(scenario)

    def test_only_the_first_of_two_answers_counts(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, item = await waiting_question(gateway)
            no = ItemAnswer(item.id, "ok", msgspec.Raw(encode("refused")))
            yes = ItemAnswer(item.id, "ok", YES)
            gateway.approvals[0].reply(gateway.boot_id, [no, yes])
            gateway.approvals[0].reply(gateway.boot_id, [yes])
            assert await task == "refused"
            await turns()
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "late"] == 2

        run_virtual(scenario)

    def test_an_answer_after_the_deadline_is_dropped(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, item = await waiting_question(gateway)
            assert isinstance(await outcome(task), Unavailable)
            gateway.approvals[0].reply(gateway.boot_id, [ItemAnswer(item.id, "ok", YES)])
            await turns()
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "late"] == 1

        run_virtual(scenario)

    @pytest.mark.parametrize("number", [0, -1, 2, 2**63 - 1])
    def test_an_answer_with_an_unknown_id_is_dropped(self, number: int) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, _ = await waiting_question(gateway)
            gateway.approvals[0].reply(gateway.boot_id, [ItemAnswer(number, "ok", YES)])
            await refused(gateway, task)
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "unknown"] == 1

        run_virtual(scenario)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xc0",
            b"\x91",
            b"\x91\xc0",
            b"\x91\xdd\xff\xff\xff\xff",
            b"\x91\x91\x93\x01\xa2ok" + b"\x91" * 100_000,
            b"\x91\x91\x93\x01\xa2ok" + b"\x81" * 100_000,
            b"\x91\x91\x93\xd4\x05\x01\xa2ok\xc0",
            b"\x91\x91\x93\xd6\xff\0\0\0\0\xa2ok\xc0",
            b"\x91\x91\x93\x01\xc7\x02\x05ok\xc0",
            b"\x91\xc8\xff\xff\x01" + b"x" * 65_535,
            b"\x91\x91\x93\x01\xa2ok\xc6\xff\xff\xff\xff",
            encode({"items": [[1, "ok", 1]]}),
            encode([[[1.0, "ok", 1]]]),
            encode([[["1", "ok", 1]]]),
            encode([[[1, "ok", 1]]]) + b"\0",
            encode([[[n, "ok", 1] for n in range(QUESTIONS_PER_MESSAGE + 1)]]),
            b"\x91\xdd\x00\x04\x00\x00" + b"\x93\x01\xa2ok\xc0" * (1 << 18),
        ],
        ids=range(18),
    )
    def test_msgpack_bombs_and_wrong_types_are_dropped(self, body: bytes) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, _ = await waiting_question(gateway)
            gateway.approvals[0].send(gateway.boot_id, body)
            await refused(gateway, task)
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "malformed"] == 1

        run_virtual(scenario)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_no_message_body_makes_the_requester_raise(self, body: bytes) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, _ = await waiting_question(gateway)
            gateway.approvals[0].send(gateway.boot_id, body)
            await refused(gateway, task)

        run_virtual(scenario)

    def test_fields_a_later_release_appended_are_ignored(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            task, item = await waiting_question(gateway)
            body = encode([[[item.id, "ok", "yes", "new", {"more": 1}]], "newer", [2]])
            gateway.approvals[0].send(gateway.boot_id, body)
            assert await task == "yes"

        run_virtual(scenario)

    def test_an_answer_is_handed_on_as_it_came_even_with_ext_types_inside(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            approval = gateway.approvals[0]
            approval.manner = approval.silent
            future = gateway.requester.submit(encode("question"))
            await turns()
            approval.send(gateway.boot_id, b"\x91\x91\x93\x01\xa2ok\xc7\x02\x05ab")
            assert bytes(await future) == b"\xc7\x02\x05ab"

        run_virtual(scenario)


class TestGatewaysWithTheSameReplicaId:
    def test_two_gateways_of_one_platform_id_never_get_each_others_answers(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            one, two = Gateway(clock), Gateway(clock)
            two.board = one.board
            two.requester._publish = one.board.send
            one.board.listen(inbox_channel(two.boot_id), two._take)
            assert one.boot_id != two.boot_id
            answers = await asyncio.gather(
                *(one.ask(f"one {n}") for n in range(20)),
                *(two.ask(f"two {n}") for n in range(20)),
            )
            assert [text for text, _ in answers] == [
                *(f"one {n}" for n in range(20)),
                *(f"two {n}" for n in range(20)),
            ]
            assert len(one.opened) == len(two.opened) == 1
            dropped = [
                k for k in (*one.counts.of, *two.counts.of) if k[0] == counters.ANSWERS_DROPPED
            ]
            assert dropped == []

        run_virtual(scenario)


def with_manners(clock: FakeClock, manners: list[str | float]) -> Gateway:
    """Return a gateway with replicas that are dead, slow by this many seconds, or misbehave."""
    gateway = Gateway(clock, approvals=0)
    for n, manner in enumerate(manners):
        approval = Approval(gateway.board, f"approval-{n}")
        gateway.approvals.append(approval)
        if isinstance(manner, float):
            approval.join().slow(manner)
        elif manner != "dead":
            approval.join().manner = getattr(approval, manner)
    gateway.hear_all()
    return gateway


class TestWhateverResponders:
    @settings(max_examples=150)
    @given(
        manners=st.lists(
            st.one_of(
                st.sampled_from(["answer", "silent", "busy", "dead", "half"]),
                st.floats(0.01, 2.5),
            ),
            max_size=5,
        ),
        outage=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.floats(0, 1))),
    )
    def test_each_question_ends_in_time_with_its_own_answer_or_unavailable(
        self, manners: list[str | float], outage: tuple[float, float] | None
    ) -> None:
        async def ask(gateway: Gateway, n: int) -> object:
            await asyncio.sleep(n % 7 * 0.05)
            started = gateway.clock.monotonic()
            result: Any = await outcome(gateway.ask(n))
            assert gateway.clock.monotonic() - started <= DEADLINE_SECONDS + 0.001
            if not isinstance(result, Unavailable):
                assert result[0] == n
            elif not outage:
                assert result.dependency == "approval"
            return result

        async def scenario(clock: FakeClock) -> None:
            gateway = with_manners(clock, manners)
            loop = asyncio.get_running_loop()
            if outage:
                loop.call_later(outage[0], setattr, gateway.board, "redis_down", True)
                loop.call_later(sum(outage), setattr, gateway.board, "redis_down", False)
            results = await asyncio.gather(*(ask(gateway, n) for n in range(40)))
            assert gateway.requester.in_flight == 0
            if manners == ["answer"] and not outage:
                assert not any(isinstance(result, Exception) for result in results)
            await asyncio.sleep(5)

        run_virtual(scenario)
