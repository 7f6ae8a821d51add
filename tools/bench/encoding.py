"""`python -m tools.bench.encoding`: msgspec against msgpack for one question on the bus.

Each round encodes and decodes one AuthorizeDevice. msgspec checks the types while it decodes; the
msgpack package returns a list, so a second row adds the check with `msgspec.convert`.
"""

from __future__ import annotations

from timeit import repeat
from typing import TYPE_CHECKING, Final

import msgpack
import msgspec

from shared.rpc.messages import AuthorizeDevice, ClientInfo, decode_question, encode

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS: Final = 9
MESSAGES_PER_ROUND: Final = 50_000
QUESTION: Final = AuthorizeDevice(
    call_id="0123456789abcdef0123456789abcdef:1234",
    device_id="a" * 64,
    public_key="b" * 43,
    role="operator",
    scopes=["operator.admin", "operator.approvals", "operator.pairing", "operator.read"],
    client=ClientInfo("openclaw-cli", "cli", "2026.9.6", "linux", "", "Kitchen Mac"),
    method="token",
    address="203.0.113.7",
    protocol=4,
    not_after_ms=1_790_000_000_000,
)


def with_msgspec() -> None:
    """Encode and decode as the services do."""
    decode_question(encode(QUESTION))


def with_msgpack() -> list[object]:
    """Encode and decode arrays of fields, unchecked."""
    tag = AuthorizeDevice.__struct_config__.tag
    fields: list[object] = msgpack.unpackb(
        msgpack.packb((tag, *msgspec.structs.astuple(QUESTION)), default=msgspec.structs.astuple)
    )
    return fields


def with_msgpack_checked() -> None:
    """Encode and decode arrays of fields, and check them."""
    msgspec.convert(with_msgpack(), AuthorizeDevice)


def main() -> None:
    """Measure and print."""
    ways: dict[str, Callable[[], object]] = {
        "msgspec": with_msgspec,
        "msgpack, unchecked": with_msgpack,
        "msgpack, checked": with_msgpack_checked,
    }
    size = len(encode(QUESTION))
    print(f"AuthorizeDevice, {size} bytes, encoded and decoded; fastest of {ROUNDS} rounds")
    reference = 0.0
    for name, way in ways.items():
        seconds = min(repeat(way, number=MESSAGES_PER_ROUND, repeat=ROUNDS))
        reference = reference or seconds
        microseconds = seconds / MESSAGES_PER_ROUND * 1e6
        print(f"{name:20} {microseconds:6.2f} µs  {seconds / reference:4.1f}x")


if __name__ == "__main__":
    main()
