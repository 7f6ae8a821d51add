"""A message sealed with our secret opens once, on its own channel; nothing else opens."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from shared.bus import envelope as module
from shared.bus.channels import EVENTS, ask_channel, inbox_channel, new_boot_id
from shared.bus.envelope import (
    MESSAGE_LIMIT_BYTES,
    OLDEST_READABLE_VERSION,
    OVERHEAD_LIMIT_BYTES,
    READABLE_VERSIONS,
    SENDERS_LIMIT,
    VERSION,
    WINDOW_MESSAGES,
    Envelope,
    Opened,
)
from shared.bus.errors import Rejected

SECRET = "a secret of at least thirty-two characters"
OTHER = "another secret, also of thirty-two characters"
CHANNEL = inbox_channel("gateway")


def approval(*secrets: str, boot_id: str = "approval", version: int = VERSION) -> Envelope:
    return Envelope(secrets or (SECRET,), boot_id, version)


def gateway(*secrets: str) -> Envelope:
    return Envelope(secrets or (SECRET,), "gateway")


def why(envelope: Envelope, data: bytes, channel: str = CHANNEL) -> str:
    with pytest.raises(Rejected) as caught:
        envelope.open(channel, data)
    return caught.value.why


def sealed_by_hand(plain: bytes, version: int = VERSION, channel: str = CHANNEL) -> bytes:
    head = bytes((version,))
    nonce = os.urandom(24)
    key = approval()._keys[0]
    return (
        head
        + nonce
        + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, head + channel.encode(), nonce, key)
    )


class TestSealing:
    @given(st.binary(max_size=2000))
    def test_a_body_comes_out_as_it_went_in(self, body: bytes) -> None:
        sender = approval()
        first = gateway().open(CHANNEL, sender.seal(CHANNEL, body))
        second = gateway().open(CHANNEL, sender.seal(CHANNEL, body))
        assert first == Opened("approval", VERSION, 1, body)
        assert second.sequence == 2

    def test_nothing_of_the_body_or_the_sender_is_readable(self) -> None:
        data = approval().seal(CHANNEL, b"device token")
        assert b"device token" not in data
        assert b"approval" not in data

    def test_the_same_body_is_never_sealed_the_same_way(self) -> None:
        sender = approval()
        assert len({sender.seal(CHANNEL, b"x")[1:] for _ in range(100)}) == 100

    def test_sealing_adds_less_than_the_overhead_it_promises(self) -> None:
        sender = approval(boot_id="b" * 64)
        assert len(sender.seal(CHANNEL, b"")) < OVERHEAD_LIMIT_BYTES

    def test_a_body_over_the_cap_is_not_sealed(self) -> None:
        largest = MESSAGE_LIMIT_BYTES - OVERHEAD_LIMIT_BYTES
        data = approval().seal(CHANNEL, b"x" * largest)
        assert len(gateway().open(CHANNEL, data).body) == largest
        with pytest.raises(Rejected, match="oversized"):
            approval().seal(CHANNEL, b"x" * (largest + 1))

    @pytest.mark.parametrize("boot_id", ["", "a" * 65, "a:b", "a b", "ä"])
    def test_a_boot_id_that_cannot_name_a_channel_is_refused(self, boot_id: str) -> None:
        with pytest.raises(ValueError, match="boot id"):
            approval(boot_id=boot_id)

    def test_without_a_secret_there_is_no_envelope(self) -> None:
        with pytest.raises(ValueError, match="secret"):
            Envelope((), "gateway")


class TestForgedMessages:
    @given(st.binary(max_size=600))
    @example(b"")
    @example(bytes((VERSION,)) * 41)
    def test_random_bytes_never_open(self, data: bytes) -> None:
        assert why(gateway(), data) == "unsealed"

    @given(st.binary(min_size=40, max_size=600))
    def test_random_bytes_behind_a_right_version_never_open(self, data: bytes) -> None:
        assert why(gateway(), bytes((VERSION,)) + data) == "unsealed"

    @given(st.data())
    def test_one_changed_bit_is_detected(self, data: st.DataObject) -> None:
        sealed = bytearray(approval().seal(CHANNEL, b"admitted"))
        at = data.draw(st.integers(0, len(sealed) * 8 - 1))
        sealed[at // 8] ^= 1 << at % 8
        assert why(gateway(), bytes(sealed)) == "unsealed"

    @given(st.integers(0, 80), st.integers(1, 80))
    def test_a_truncated_or_extended_message_never_opens(self, cut: int, more: int) -> None:
        sealed = approval().seal(CHANNEL, b"admitted")
        assert why(gateway(), sealed[: -1 - cut]) == "unsealed"
        assert why(gateway(), sealed + b"\0" * more) == "unsealed"

    def test_a_message_sealed_with_another_secret_never_opens(self) -> None:
        assert why(gateway(), approval(OTHER).seal(CHANNEL, b"admitted")) == "unsealed"

    def test_a_message_for_another_channel_never_opens(self) -> None:
        for channel in (EVENTS, ask_channel("gateway"), inbox_channel("gateway2")):
            assert why(gateway(), approval().seal(channel, b"admitted")) == "unsealed"

    def test_a_message_opens_only_once(self) -> None:
        receiver = gateway()
        data = approval().seal(CHANNEL, b"admitted")
        receiver.open(CHANNEL, data)
        with pytest.raises(Rejected) as caught:
            receiver.open(CHANNEL, data)
        assert (caught.value.why, caught.value.sender) == ("replayed", "approval")

    def test_ten_megabytes_are_dropped_before_decryption(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: object) -> bytes:
            raise AssertionError

        monkeypatch.setattr(module, "crypto_aead_xchacha20poly1305_ietf_decrypt", never)
        assert why(gateway(), bytes(10 * 1024 * 1024)) == "oversized"
        assert why(gateway(), bytes(MESSAGE_LIMIT_BYTES + 1)) == "oversized"

    def test_our_own_message_played_back_into_our_inbox(self) -> None:
        receiver = gateway()
        assert why(receiver, receiver.seal(CHANNEL, b"admitted")) == "self"

    @pytest.mark.parametrize(
        "plain",
        [
            b"",
            b"\x08approval",
            b"\x08approval1234567",
            b"\xffapproval12345678",
            b"\0" + b"12345678" + b"body",
            b"\x03a:b12345678",
            b"\x02\xff\xfe12345678",
        ],
    )
    def test_a_peer_that_seals_nonsense_is_malformed(self, plain: bytes) -> None:
        assert why(gateway(), sealed_by_hand(plain)) == "malformed"

    @settings(max_examples=300)
    @given(st.binary(max_size=100))
    def test_whatever_a_peer_seals_only_rejected_is_raised(self, plain: bytes) -> None:
        try:
            opened = gateway().open(CHANNEL, sealed_by_hand(plain))
        except Rejected as rejected:
            assert rejected.why in {"malformed", "self"}  # noqa: PT017  both ways are right
        else:
            assert plain.endswith(opened.body)


class TestReplay:
    def test_an_own_event_opens_once_and_proves_the_subscription(self) -> None:
        sender = approval()
        data = sender.seal(EVENTS, b"alive")
        assert sender.open(EVENTS, data).sender == "approval"
        assert why(sender, data, EVENTS) == "replayed"

    def test_messages_may_overtake_each_other_a_little(self) -> None:
        sender, receiver = approval(), gateway()
        data = [sender.seal(CHANNEL, b"%d" % n) for n in range(WINDOW_MESSAGES + 1)]
        assert receiver.open(CHANNEL, data[-1]).sequence == WINDOW_MESSAGES + 1
        for n in range(WINDOW_MESSAGES - 1, 0, -1):
            assert receiver.open(CHANNEL, data[n]).body == b"%d" % n
        assert why(receiver, data[0]) == "replayed"
        assert all(why(receiver, item) == "replayed" for item in data)

    @given(st.lists(st.integers(1, 3 * WINDOW_MESSAGES), max_size=60))
    def test_each_sequence_opens_at_most_once_whatever_the_order(self, order: list[int]) -> None:
        sender = module._Sender("approval")
        taken: set[int] = set()
        for sequence in order:
            expected = sequence not in taken and sequence > max(taken, default=0) - WINDOW_MESSAGES
            assert sender.take(sequence) is expected
            if expected:
                taken.add(sequence)

    def test_a_jump_as_wide_as_it_gets_costs_nothing(self) -> None:
        sender = module._Sender("approval")
        assert [sender.take(n) for n in (1, 2**64 - 1, 2**64 - 1, 2**64 - 2, 1)] == [
            True,
            True,
            False,
            True,
            False,
        ]

    def test_senders_are_distinguished(self) -> None:
        receiver = gateway()
        for boot_id in ("one", "two"):
            assert (
                receiver.open(CHANNEL, approval(boot_id=boot_id).seal(CHANNEL, b"")).sequence == 1
            )

    def test_known_senders_are_bounded_and_the_least_recently_seen_is_dropped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "SENDERS_LIMIT", 3)
        assert SENDERS_LIMIT >= 1024
        receiver = gateway()
        senders = [approval(boot_id=new_boot_id()) for _ in range(4)]
        first = [sender.seal(EVENTS, b"") for sender in senders]
        for data in first[:3]:
            receiver.open(EVENTS, data)
        receiver.open(EVENTS, senders[0].seal(EVENTS, b""))
        receiver.open(EVENTS, first[3])
        assert len(receiver._senders) == 3
        assert why(receiver, first[0], EVENTS) == "replayed"
        assert receiver.open(EVENTS, first[1]).sequence == 1

    def test_our_own_window_is_never_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "SENDERS_LIMIT", 1)
        receiver = approval()
        own = receiver.seal(EVENTS, b"alive")
        receiver.open(EVENTS, own)
        for _ in range(5):
            receiver.open(EVENTS, approval(boot_id=new_boot_id()).seal(EVENTS, b""))
        assert why(receiver, own, EVENTS) == "replayed"


class TestRotationOfBusSecret:
    def test_a_replica_that_accepts_both_understands_one_of_either(self) -> None:
        receiver = gateway(SECRET, OTHER)
        assert receiver.open(CHANNEL, approval(SECRET).seal(CHANNEL, b"old")).body == b"old"
        after = approval(OTHER, boot_id="new").seal(CHANNEL, b"new")
        assert receiver.open(CHANNEL, after).body == b"new"

    def test_the_first_secret_seals(self) -> None:
        data = approval(OTHER, SECRET).seal(CHANNEL, b"")
        assert gateway(OTHER).open(CHANNEL, data).body == b""
        assert why(gateway(SECRET), data) == "unsealed"

    def test_every_step_of_a_change_keeps_all_replicas_talking(self) -> None:
        steps = [(SECRET,), (SECRET, OTHER), (OTHER, SECRET), (OTHER,)]
        for before, after in itertools.pairwise(steps):
            for speaks, listens in ((before, after), (after, before)):
                data = approval(*speaks).seal(CHANNEL, b"")
                assert gateway(*listens).open(CHANNEL, data).sender == "approval"


class TestVersions:
    @pytest.mark.parametrize("version", sorted(READABLE_VERSIONS))
    def test_a_message_of_a_readable_version_is_read(self, version: int) -> None:
        data = approval(version=version).seal(CHANNEL, b"readable")
        opened = gateway().open(CHANNEL, data)
        assert (opened.version, opened.body) == (version, b"readable")

    @pytest.mark.parametrize("version", range(OLDEST_READABLE_VERSION))
    def test_a_message_of_a_version_with_other_names_is_not_read(self, version: int) -> None:
        assert why(gateway(), approval(version=version).seal(CHANNEL, b"older")) == "version"

    def test_a_new_version_is_read_at_every_step_of_its_introduction(self) -> None:
        old, new = VERSION, VERSION + 1
        releases = [(old, {old}), (old, {old, new}), (new, {old, new}), (new, {new})]
        for one, other in itertools.pairwise(releases):
            for (written, _), (_, read) in ((one, other), (other, one)):
                receiver = Envelope((SECRET,), "gateway", readable=read)
                opened = receiver.open(CHANNEL, approval(version=written).seal(CHANNEL, b"x"))
                assert (opened.version, opened.body) == (written, b"x")

    def test_a_message_of_a_later_release_is_distinguished_from_a_forged_one(self) -> None:
        later = approval(version=VERSION + 1).seal(CHANNEL, b"later")
        assert why(gateway(), later) == "version"
        assert (
            why(gateway(), bytes((VERSION + 1,)) + later[1:-1] + bytes((later[-1] ^ 1,)))
            == "unsealed"
        )

    def test_the_version_cannot_be_changed_on_the_way(self) -> None:
        data = approval().seal(CHANNEL, b"")
        assert why(gateway(), bytes((VERSION - 1,)) + data[1:]) == "unsealed"
