"""Module boundaries of the bus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.bus import counters
from shared.bus.channels import EVENTS, ask_channel, inbox_channel, new_boot_id
from shared.bus.envelope import MESSAGE_LIMIT_BYTES, OVERHEAD_LIMIT_BYTES
from shared.bus.errors import BusError, Rejected, Unavailable
from shared.rpc.codec import BODY_LIMIT_BYTES, QUESTIONS_PER_MESSAGE, Item, Questions, encode
from shared.rpc.requester import DEADLINE_SECONDS, TRY_SECONDS

BUS = Path(counters.__file__).parent


class TestModules:
    @pytest.mark.parametrize("module", sorted(BUS.glob("*.py")), ids=lambda path: path.stem)
    def test_no_module_uses_redis_directly(self, module: Path) -> None:
        imports = re.findall(r"^\s*(?:from|import) (redis)\b", module.read_text(), re.MULTILINE)
        assert not imports, "shared.redis does that"

    def test_each_counter_has_its_own_name(self) -> None:
        names = [value for name, value in vars(counters).items() if name.isupper()]
        assert len(names) == len(set(names)) > 10
        assert all(name.startswith("bus_") for name in names)


class TestChannels:
    def test_boot_ids_are_random_and_keep_channels_apart(self) -> None:
        boot_ids = {new_boot_id() for _ in range(1000)}
        assert len(boot_ids) == 1000
        assert all(re.fullmatch(r"[0-9a-f]{32}", boot_id) for boot_id in boot_ids)

    def test_no_two_channels_share_a_name(self) -> None:
        assert len({EVENTS, ask_channel("a"), inbox_channel("a"), ask_channel("b")}) == 4
        assert all(name.startswith("latchkey:") for name in (EVENTS, ask_channel("a")))


class TestErrors:
    def test_unavailable_names_what_to_look_at(self) -> None:
        assert Unavailable("redis").dependency == "redis"
        assert Unavailable("timeout").dependency == "approval"
        assert Unavailable("overloaded", "redis").dependency == "redis"
        assert str(Unavailable("redis", detail="refused")) == "redis: refused"
        assert isinstance(Unavailable("timeout"), BusError)

    def test_rejected_names_why_and_who(self) -> None:
        assert str(Rejected("unsealed")) == "unsealed"
        assert str(Rejected("replayed", "abc")) == "replayed, from abc"
        assert isinstance(Rejected("self"), BusError)


class TestLimits:
    def test_the_largest_body_fits_a_message(self) -> None:
        body = encode(Questions([Item(2**63, encode(bytes(BODY_LIMIT_BYTES - 5)))]))  # type: ignore[arg-type]
        assert len(body) <= MESSAGE_LIMIT_BYTES - OVERHEAD_LIMIT_BYTES

    def test_there_is_time_for_several_tries(self) -> None:
        assert DEADLINE_SECONDS >= 3 * TRY_SECONDS
        assert QUESTIONS_PER_MESSAGE >= 64
