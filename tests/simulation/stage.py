"""A small cluster for directed scenarios, and the operations a scenario performs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.domain.records import decode_record
from services.approval.storage.keys import device_key
from shared.bus.channels import inbox_channel
from tests.simulation.checks.settled import check_progress, check_views
from tests.simulation.cluster import Cluster
from tests.simulation.engine.logs import listening
from tests.simulation.engine.story import Violation
from tests.simulation.engine.world import World
from tests.simulation.outages import Outages
from tests.simulation.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.cluster import Member
    from tests.simulation.engine.network import Way
    from tests.simulation.mutants.rules import Variant
    from tests.simulation.services.approval import ApprovalProcess
    from tests.simulation.services.devices import Device

STEP_SECONDS: Final = 0.0005
CALL_SECONDS: Final = 0.1


class Stage:
    """One gateway, two approvals and three devices that are not approved yet."""

    def __init__(self, variant: Variant, *, changes_limit: int = 256) -> None:
        self.world = World(1, with_story=True)
        self.cluster = Cluster(
            self.world, variant, gateways=1, devices=3, changes_limit=changes_limit
        )
        self.gateway = self.cluster.gateways[0]
        self.one, self.other = self.cluster.approvals
        self.devices = self.cluster.devices
        self.device = self.devices[0]
        self._work = Work(self.cluster, until=0.0)

    def run(self, seconds: float) -> None:
        """Advance time."""
        self.world.run(self.world.now + seconds)

    def until(self, holds: Callable[[], object], seconds: float = 5.0) -> None:
        """Advance time in small steps until a condition holds."""
        end = self.world.now + seconds
        while not holds():
            assert self.world.now < end, "what the scenario waits for does not happen"
            self.run(STEP_SECONDS)

    def pair(self, *devices: Device) -> None:
        """Send devices' requests and have an operator approve them."""
        for device in devices:
            device.connect(self.gateway, with_token=False)
        self.run(0.1)
        self._work.decide(self.one)
        self.run(0.2)

    def enter(self, device: Device) -> None:
        """Have a paired device connect."""
        device.connect(self.gateway, with_token=False)
        self.run(0.1)
        assert device.admitted

    def operate(self, action: str, device: Device, at: Member | None = None) -> None:
        """Run an operator's action at an approval, and wait for it."""
        approval = self.other if at is self.other else self.one
        self._work.change(approval, action, device)
        self.run(0.02)

    def reject(self) -> None:
        """Have an operator reject the pending requests."""
        self._work.decide(self.one, reject=True)
        self.run(0.1)

    def request_of(self, device: Device) -> str:
        """Return the id of a device's pending request."""
        value = self.cluster.server.data.texts[device_key(device.key.device_id)]
        pending = decode_record(value[16:]).pending
        assert pending is not None
        return pending.request_id

    def after_a_beat(self) -> None:
        """Advance time until just after a regular heartbeat was sent."""
        last = self.gateway.beat._last_id
        self.until(lambda: self.gateway.beat._last_id > last)

    def before_a_beat(self, seconds: float) -> None:
        """Advance time until this many seconds before a regular heartbeat."""
        self.after_a_beat()
        self.run(1.0 - seconds)

    def beats(self) -> None:
        """Send a heartbeat now, and wait for its effects."""
        self.gateway.process.receive(self.gateway.beater.sync_now)
        self.run(0.1)

    def with_a_held_answer(self) -> ApprovalProcess:
        """Return the approval whose answer is being held back."""
        inbox = inbox_channel(self.gateway.process.boot_id)
        held = [item for item in (self.one, self.other) if item.lines[0].up.holds_for(inbox)]
        assert len(held) == 1
        return held[0]

    def calls(self, device: Device, seconds: float) -> None:
        """Have a device call repeatedly."""
        for _ in range(round(seconds / CALL_SECONDS)):
            device.call()
            self.run(CALL_SECONDS)

    def only_the_first_is_heard(self) -> None:
        """Lose the other approval's publications until no gateway asks it any more."""
        self.other.lines[0].up.cut = True
        self.run(4.0)

    def split(self, *, forget: int, moved: Sequence[Member]) -> None:
        """Promote a replica that lacks the newest changes; only these approvals' stores move."""
        cluster, old = self.cluster, self.cluster.server
        old.data.writable = False
        head = old.data.between("latchkey:changes", 0)[-1][0]
        stored = len(old.journal)
        while True:
            new = old.promoted("B", stored)
            changes = new.data.between("latchkey:changes", 0)
            if changes and changes[-1][0] <= head - forget:
                break
            stored -= 1
        cluster.oracle.histories.inherit(old, new)
        cluster.oracle.lose_history()
        cluster.server = new
        cluster.oracle.replaced(new)
        self.world.story.tell("redis B", f"is the master; it forgot {forget} changes")
        for member in moved:
            member.lines[2].server = new

    def trim(self) -> None:
        """Keep only the newest entry of the change log."""
        Outages(self.cluster, self.world.random.uniform).trim()

    def settle(self) -> None:
        """Wait until all is quiet, and check the invariants that must hold then."""
        for member in self.cluster.members:
            for line in member.lines:
                line.mend()
                line.server = self.cluster.server
            if member.bus.subscribed_elsewhere():
                member.bus.lose(silently=False)
        self.run(7.0)
        check_views(self.cluster)
        for device in self.devices:
            if device.idle:
                device.connect(self.gateway, with_token=False)
        self.run(2.5)
        check_progress(self.cluster)
        self.run(0.0)


def hold(way: Way) -> None:
    """Hold back messages on a way until it is restore_stack."""
    way.cut = way.keeps = True


def play(scenario: Callable[[Stage], None], variant: Variant, **options: int) -> tuple[str, str]:
    """Play a scenario; returns the violated invariant, if any, and the story."""
    stage = Stage(variant, **options)
    with listening(stage.world):
        try:
            stage.run(3.0)
            scenario(stage)
        except Violation as violation:
            return violation.invariant, str(stage.world.story)
    return "", str(stage.world.story)
