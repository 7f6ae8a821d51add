"""Which client receives which event, in which order, at every gateway."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.device.profile import CLI, CLI_3, NODE_HOST
from tests.e2e.callers import ADMINISTRATOR, PAIRING, READ, WRITE, Callers, approve, both_protocols
from tests.e2e.redis_admin import cut
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from shared.device.handshake import Event
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tests.e2e.callers import Caller
    from tests.support.websocket.raw_socket import RawSocket
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

BEAT_SECONDS: Final = 0.3
SOON_SECONDS: Final = 5.0
"""A few heartbeats, with reserve for a busy machine."""
REQUESTED, RESOLVED, CHANGED = (
    f"device.pair.{name}" for name in ("requested", "resolved", "changed")
)


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and three gateways, for the whole module."""
    return start_stack(approvals=2, gateways=3, gateway_env={"BEAT_SECONDS": str(BEAT_SECONDS)})


@dataclass
class Listener:
    """A connection that records its events; each must have the next sequence number."""

    caller: Caller
    heard: list[Event] = field(default_factory=list)

    async def next(self) -> Event:
        """Return the next pairing event."""
        while True:
            event = await self.caller.client.next_event(within=WAIT_SECONDS)
            self.heard.append(event)
            assert event.seq == len(self.heard), self.heard
            if event.name.startswith("device.pair."):
                return event

    async def hears(self, *expected: tuple[str, Any]) -> None:
        """Check that the next pairing event is this one."""
        for name, payload in expected:
            event = await self.next()
            assert (event.name, event.payload) == (name, payload)

    async def heard_nothing(self) -> None:
        """Check that no pairing event was received so far.

        A gateway broadcasts to all connections at once, so that every event precedes the answer.
        """
        assert (await self.caller.client.call("health")).ok
        received = {event.name for event in unheard(self.caller)}
        assert received <= {"tick", "presence"}


def unheard(caller: Caller) -> list[Event]:
    """Return the events that a caller has received but not yet checked."""
    return list(caller.client._events._items)


def resolved(
    device: SimulatedDevice, request_id: str, decision: str, ts: object
) -> tuple[str, Any]:
    """Return the event for the end of a request."""
    payload = {
        "requestId": request_id,
        "deviceId": device.device_id,
        "decision": decision,
        "ts": ts,
    }
    return RESOLVED, payload


class Audience:
    """Listeners at every gateway in both protocols, including some without the right to events."""

    def __init__(self) -> None:
        self.newer: list[Listener] = []
        self.older: list[Listener] = []
        self.outside: list[Listener] = []

    @property
    def everybody(self) -> list[Listener]:
        """All listeners that may receive pairing events."""
        return [*self.newer, *self.older]

    async def gather(self, callers: Callers, stack: Stack) -> None:
        """Admit all listeners."""
        newer = await pair(stack, CLI.with_scopes(PAIRING))
        older = await pair(stack, CLI_3.with_scopes(PAIRING))
        outside = [
            await pair(stack),
            await pair(stack, CLI_3.with_scopes(READ)),
            await pair(stack, NODE_HOST),
        ]
        for gateway in stack.gateways:
            self.newer.append(Listener(await callers.stay(newer, gateway)))
            self.older.append(Listener(await callers.stay(older, gateway)))
            for device in outside:
                self.outside.append(Listener(await callers.stay(device, gateway)))

    async def end(self, stack: Stack) -> None:
        """Check that there were no further events, and none for those without the right."""
        last = SimulatedDevice(stack)
        request_id = await last.request_pairing(stack.gateways[0])
        for listener in self.everybody:
            event = await listener.next()
            assert (event.name, event.payload["requestId"]) == (REQUESTED, request_id)
        for listener in self.outside:
            await listener.heard_nothing()


@pytest.fixture
async def audience(stack: Stack, callers: Callers) -> Audience:
    audience = Audience()
    await audience.gather(callers, stack)
    return audience


class TestPairing:
    @pytest.mark.parametrize("decision", ["approved", "rejected"])
    @pytest.mark.parametrize("way", ["socket", "http"])
    async def test_requested_and_resolved_reach_all_clients_with_the_pairing_scope(
        self, stack: Stack, callers: Callers, audience: Audience, decision: str, way: str
    ) -> None:
        admin = await callers.enter(ADMINISTRATOR, stack.gateways[2])
        for listener in audience.everybody:
            await listener.next()
            await listener.next()
        device = SimulatedDevice(stack, replace(CLI, display_name="A name"))
        request_id = await device.request_pairing(stack.gateways[1])
        listed = (await admin.call("device.pair.list"))["pending"]
        (pending,) = [item for item in listed if item["requestId"] == request_id]
        verb = {"approved": "approve", "rejected": "reject"}[decision]
        if way == "socket":
            await admin.call(f"device.pair.{verb}", requestId=request_id)
        else:
            async with Operator(stack, stack.approvals[0]) as operator:
                (await operator.call("POST", f"requests/{request_id}/{verb}")).ok()
        times = set()
        for listener in audience.everybody:
            await listener.hears((REQUESTED, pending))
            event = await listener.next()
            times.add(event.payload["ts"])
            assert (event.name, event.payload) == resolved(
                device, request_id, decision, event.payload["ts"]
            )
        (ts,) = times
        assert abs(time.time() * 1000 - ts) < 60_000
        await audience.end(stack)

    async def test_asking_again_tells_nothing(self, stack: Stack, audience: Audience) -> None:
        device = SimulatedDevice(stack)
        request_id = await device.request_pairing(stack.gateways[0])
        for gateway in stack.gateways:
            assert await device.request_pairing(gateway) == request_id
        for listener in audience.everybody:
            assert (await listener.next()).payload["requestId"] == request_id
        await audience.end(stack)

    async def test_superseded_is_resolved_as_rejected_and_then_requested(
        self, stack: Stack, audience: Audience
    ) -> None:
        device = SimulatedDevice(stack)
        old = await device.request_pairing(stack.gateways[0])
        new = await device.with_scopes(READ, WRITE).request_pairing(stack.gateways[1])
        for listener in audience.everybody:
            assert (await listener.next()).payload["requestId"] == old
        for listener in audience.newer:
            event = await listener.next()
            expected = resolved(device, old, "rejected", event.payload["ts"])
            assert (event.name, event.payload) == expected
        for listener in audience.everybody:
            event = await listener.next()
            assert (event.name, event.payload["requestId"]) == (REQUESTED, new)
            assert event.payload["scopes"] == [READ, WRITE]
        await audience.end(stack)

    async def test_a_rename_tells_the_newer_that_something_changed(
        self, stack: Stack, callers: Callers, audience: Audience
    ) -> None:
        device_id = audience.newer[0].caller.device_id
        await audience.newer[0].caller.call("device.pair.rename", deviceId=device_id, label="new")
        for listener in audience.newer:
            await listener.hears((CHANGED, {}))
        await audience.newer[0].caller.call("device.pair.rename", deviceId=device_id, label="new")
        await audience.end(stack)

    @pytest.mark.parametrize("ending", ["remove", "rotate", "revoke"])
    async def test_what_ends_a_device_tells_nothing(
        self, stack: Stack, callers: Callers, ending: str
    ) -> None:
        device = await pair(stack)
        audience = Audience()
        await audience.gather(callers, stack)
        inside = await callers.stay(device, stack.gateways[1])
        async with Operator(stack, stack.approvals[1]) as operator:
            (await getattr(operator, ending)(device.device_id)).ok()
        await inside.client.closed(within=SOON_SECONDS)
        await audience.end(stack)

    async def test_a_request_that_expires_tells_nothing(self, start_stack: StartStack) -> None:
        brief = start_stack(gateways=1, approval_env={"PENDING_TTL_SECONDS": "1"})
        (gateway,) = brief.gateways
        async with Callers(brief) as callers:
            device = await approved_at_once(brief, CLI.with_scopes(PAIRING))
            listener = Listener(await callers.stay(device, gateway))
            waiting = SimulatedDevice(brief)
            request_id = await waiting.request_pairing(gateway)
            assert (await listener.next()).payload["requestId"] == request_id
            async with Operator(brief, brief.approvals[0]) as operator:
                until = time.monotonic() + WAIT_SECONDS
                while "expired" not in await operator.audit(waiting.device_id):
                    assert time.monotonic() < until
            last = await SimulatedDevice(brief).request_pairing(gateway)
            event = await listener.next()
            assert (event.name, event.payload["requestId"]) == (REQUESTED, last)


async def approved_at_once(stack: Stack, profile: Profile) -> SimulatedDevice:
    """Return a device that was approved before its request expired."""
    device = SimulatedDevice(stack, profile)
    await approve(stack, await device.request_pairing(stack.gateways[0]))
    return device


async def presence(raw: RawSocket) -> tuple[int, dict[str, Any]]:
    """Return the next presence event: its version and its devices."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (frame := await raw.receive_text()).get("event") != "presence":
            pass
    assert frame.keys() == {"type", "event", "payload", "stateVersion", "seq"}
    assert frame["stateVersion"].keys() == {"presence", "health"}
    assert frame["payload"].keys() == {"presence"}
    entries = frame["payload"]["presence"]
    devices = {entry["deviceId"]: entry for entry in entries if "deviceId" in entry}
    return frame["stateVersion"]["presence"], devices


class TestPresence:
    @both_protocols
    async def test_connects_elsewhere_are_sent_soon(
        self, stack: Stack, callers: Callers, profile: Profile
    ) -> None:
        reader = await pair(stack, profile.with_scopes(READ))
        device = await pair(stack, profile.with_scopes(PAIRING))
        raw = await callers.raw(reader, stack.gateways[0])
        versions = []

        async def wait_for_presence(*, there: bool) -> dict[str, Any]:
            """Return the devices once the device is, or is not, among them.

            After a slow fetch the next list is delayed, so that fetching stays rare.
            """
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    version, devices = await presence(raw)
                    versions.append(version)
                    if (device.device_id in devices) == there:
                        return devices

        await wait_for_presence(
            there=False
        )  # it was there when it was paired, and may have been told so
        stay = await callers.stay(device, stack.gateways[1])
        devices = await wait_for_presence(there=True)
        assert devices[device.device_id]["tags"] == [f"gateway:{stack.gateways[1].boot_id}"]
        await stay.client.close()
        await wait_for_presence(there=False)
        assert versions == sorted(set(versions)), "versions rise, and each is sent once"

    async def test_presence_is_sent_only_to_clients_that_may_read(
        self, stack: Stack, callers: Callers
    ) -> None:
        gateway = stack.gateways[0]
        reader = await callers.raw(await pair(stack, CLI.with_scopes(READ)), gateway)
        others = [
            await callers.stay(await pair(stack, profile), gateway)
            for profile in (CLI.with_scopes(PAIRING), NODE_HOST)
        ]
        newcomer = await pair(stack, CLI.with_scopes(PAIRING))
        await callers.stay(newcomer, stack.gateways[1])
        while newcomer.device_id not in (await presence(reader))[1]:
            pass
        for other in others:
            assert (await other.client.call("health")).ok
            assert "presence" not in {event.name for event in unheard(other)}


class TestShutdown:
    @both_protocols
    async def test_shutdown_is_sent_before_the_close(
        self, stack: Stack, callers: Callers, profile: Profile
    ) -> None:
        leaving = stack.gateways[2]
        devices = [
            await pair(stack, profile.with_scopes(PAIRING)),
            await pair(
                stack,
                replace(
                    NODE_HOST, min_protocol=profile.min_protocol, max_protocol=profile.max_protocol
                ),
            ),
        ]
        raws = [await callers.raw(device, leaving) for device in devices]
        leaving.terminate()
        payload: dict[str, object] = {"reason": "gateway stopping"}
        if profile is CLI_3:
            payload["restartExpectedMs"] = None
        for raw in raws:
            frame = await raw.receive_text()
            while frame["event"] == "tick":
                frame = await raw.receive_text()
            assert frame == {
                "type": "event",
                "event": "shutdown",
                "payload": payload,
                "seq": frame["seq"],
            }
            assert await raw.closed() == (1012, "service restart")
        assert await leaving.until_ended() == 0
        leaving.start()
        await leaving.until_ready()


class TestLostEvents:
    """Events that a gateway missed are recovered by its heartbeat, in order, and sent once."""

    async def story(self, stack: Stack, deaf: ServiceProcess) -> list[tuple[str, str, str]]:
        """Cause changes at the other gateways; returns the expected events."""
        others = [gateway for gateway in stack.gateways if gateway is not deaf]
        received = []
        async with Operator(stack, stack.approvals[0]) as operator:
            for turn in range(4):
                device = SimulatedDevice(stack)
                request_id = await device.request_pairing(others[turn % 2])
                received.append((REQUESTED, request_id, ""))
                verb = ("approve", "reject")[turn % 2]
                (await operator.call("POST", f"requests/{request_id}/{verb}")).ok()
                received.append((RESOLVED, request_id, ("approved", "rejected")[turn % 2]))
        return received

    async def heard(self, listener: Listener, count: int) -> list[tuple[str, str, str]]:
        events = [await listener.next() for _ in range(count)]
        return [
            (event.name, event.payload["requestId"], event.payload.get("decision", ""))
            for event in events
        ]

    async def test_while_it_hung_and_its_subscription_was_lost(
        self, stack: Stack, callers: Callers
    ) -> None:
        deaf = stack.gateways[0]
        boot_id = deaf.boot_id
        device = await pair(stack, CLI.with_scopes(PAIRING))
        listeners = [Listener(await callers.stay(device, gateway)) for gateway in stack.gateways]
        deaf.pause()
        assert await asyncio.to_thread(cut, stack, boot_id) >= 1
        received = await self.story(stack, deaf)
        deaf.resume()
        for listener in listeners:
            assert await self.heard(listener, len(received)) == received
        last = await SimulatedDevice(stack).request_pairing(stack.gateways[1])
        for listener in listeners:
            assert await self.heard(listener, 1) == [(REQUESTED, last, "")]

    @pytest.mark.parametrize("turn", range(3))
    async def test_cut_at_the_moment_of_an_approval(
        self, stack: Stack, callers: Callers, turn: int
    ) -> None:
        deaf = stack.gateways[turn]
        boot_id = deaf.boot_id
        device = await pair(stack, CLI.with_scopes(PAIRING))
        listener = Listener(await callers.stay(device, deaf))
        story = asyncio.create_task(self.story(stack, deaf))
        assert await asyncio.to_thread(cut, stack, boot_id) >= 1
        received = await story
        assert await self.heard(listener, len(received)) == received
        last = await SimulatedDevice(stack).request_pairing(stack.gateways[turn - 1])
        assert await self.heard(listener, 1) == [(REQUESTED, last, "")]
