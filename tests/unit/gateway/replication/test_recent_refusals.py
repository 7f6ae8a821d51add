"""Refusals are kept within limits and reported until a heartbeat with them is answered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.replication.recent_refusals import (
    DETAIL_LIMIT_CHARACTERS,
    NAME_LIMIT_CHARACTERS,
    REFUSALS_LIMIT_ENTRIES,
    REFUSALS_PER_ADDRESS_ENTRIES,
    REFUSALS_PER_BEAT_ENTRIES,
    RecentRefusals,
)
from shared.device.profile import CLI, CLI_3, CONTROL_UI
from shared.protocol import refusals
from shared.protocol.limits import SIGNED_AT_SKEW_MS
from shared.protocol.refusals import Refusal
from shared.rpc.messages import (
    BeatQuestion,
    ClientInfo,
    Denied,
    LockedOut,
    NeedsPairing,
    Position,
    RefusalReport,
    TooManyPending,
    encode,
)
from tests.support.attempts import (
    CLEAR,
    NOW_MS,
    OTHER_KEY,
    REMOTE,
    altered,
    connect,
    encoded,
    new_handshake,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import RequestInfo
    from shared.device.profile import Profile
    from shared.rpc.messages import Answer
    from tests.support.attempts import Frame

NOW = Position(1, "tag")
BEAT_LIMIT_BYTES = 100_000
"""The maximum size of one heartbeat's report, with the longest texts."""
STALE = refusals.SIGNATURE_EXPIRED


class Attempt:
    """A minimal attempt that is passed as a handshake."""

    def __init__(self, device_id: str = "", *, proven: bool = False, name: str = "") -> None:
        self.device_id = device_id
        self.proven = proven
        self.client = ClientInfo("cli", "cli", "1", "linux", "", name) if name else None


def device(number: int) -> str:
    return f"{number:064x}"


def at(address: str) -> RequestInfo:
    return replace(REMOTE, address=address)


def note(
    recent: RecentRefusals,
    who: Attempt | Handshake,
    refusal: Refusal = STALE,
    *,
    address: str = "203.0.113.7",
    when: float = 0.0,
) -> None:
    recent.note(who, at(address), refusal, when)  # type: ignore[arg-type]


def met(frame: object, answer: Answer | None = None, peer: RequestInfo = REMOTE) -> RefusalReport:
    """Pass a first frame to a real handshake, answer it, and return the reported refusal."""
    handshake = new_handshake(peer)
    effect = handshake.on_frame(encoded(frame), now_ms=NOW_MS)
    if not isinstance(effect, Refusal):
        assert answer is not None, effect
        told = handshake.on_answer(answer)
        assert isinstance(told, Refusal)
        effect = told
    recent = RecentRefusals()
    recent.note(handshake, peer, effect, 0.0)
    (report,) = recent.report(1, 0.0)
    return report


class TestWhatIsReported:
    def test_a_proven_device_with_everything_that_helps_to_find_the_cause(self) -> None:
        recent = RecentRefusals()
        who = Attempt(device(7), proven=True, name="Kitchen Mac")
        note(recent, who, refusals.DEVICE_TOKEN_MISMATCH, when=1.0)
        note(recent, who, refusals.DEVICE_TOKEN_MISMATCH, when=2.5)
        assert recent.report(1, 4.0) == [
            RefusalReport(
                reason="device-token-mismatch",
                undecided=False,
                device_id=device(7),
                proven=True,
                address="203.0.113.7",
                number=1,
                count=2,
                confirmed=0,
                age_ms=1500,
                first_age_ms=3000,
                client_id="cli",
                display_name="Kitchen Mac",
            )
        ]

    def test_another_reason_begins_another_run(self) -> None:
        recent = RecentRefusals()
        for refusal in (STALE, STALE, refusals.SIGNATURE_INVALID):
            note(recent, Attempt(device(1)), refusal)
        (report,) = recent.report(1, 0.0)
        assert (report.reason, report.number, report.count) == ("device-signature", 2, 1)

    def test_claims_and_proofs_of_one_device_are_apart(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1), proven=True), refusals.DEVICE_TOKEN_MISMATCH)
        for _ in range(100):
            note(recent, Attempt(device(1)), refusals.SIGNATURE_INVALID)
        reports = recent.report(1, 0.0)
        assert [(one.proven, one.reason, one.count) for one in reports] == [
            (True, "device-token-mismatch", 1),
            (False, "device-signature", 100),
        ]

    @pytest.mark.parametrize("claimed", ["", "x", "A" * 64, "0" * 65, "<script>", "0" * 65_000])
    def test_what_is_no_device_id_is_kept_by_address_and_reason(self, claimed: str) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(claimed, proven=True), refusals.DEVICE_ID_MISMATCH)
        note(recent, Attempt(claimed), refusals.INVALID_ROLE)
        reports = recent.report(1, 0.0)
        assert [(one.device_id, one.proven, one.reason) for one in reports] == [
            ("", False, "device-id-mismatch"),
            ("", False, "invalid-role"),
        ]

    def test_long_texts_are_cut(self) -> None:
        recent = RecentRefusals()
        refusal = refusals.invalid_params(["x" * 10_000], 4)
        note(recent, Attempt(device(1), name="n" * 128), refusal)
        (report,) = recent.report(1, 0.0)
        assert len(report.detail) == DETAIL_LIMIT_CHARACTERS
        assert len(report.display_name) == NAME_LIMIT_CHARACTERS


TOO_OLD = SIGNED_AT_SKEW_MS + 1
PROVEN, CLAIMED, ABSENT = True, False, None
ORIGIN = "https://other.example"


class TestReasons:
    @pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["protocol 4", "protocol 3"])
    def test_each_reason_for_an_unproven_fact(self, profile: Profile) -> None:
        def change(name: str, value: object) -> Callable[[Frame], object]:
            return lambda params: params["device"].update({name: value})

        sound = connect(profile)
        by_token = connect(profile, token=None, device_token="d")
        wrong = connect(profile, token="wrong")
        cases: list[tuple[object, Answer | None, bool | None, str]] = [
            (b"{", None, ABSENT, "not-json"),
            ([], None, ABSENT, "invalid-frame"),
            ({"type": "req", "id": "1", "method": "x"}, None, ABSENT, "not-connect"),
            (altered(sound, lambda params: params.pop("client")), None, ABSENT, "invalid-params"),
            (
                altered(sound, lambda params: params.update(minProtocol=9, maxProtocol=9)),
                None,
                CLAIMED,
                "protocol-mismatch",
            ),
            (altered(sound, lambda params: params.update(role="x")), None, CLAIMED, "invalid-role"),
            (connect(profile, key=None, token=None), None, ABSENT, "device-required"),
            (connect(profile, key=None, token="wrong"), CLEAR, ABSENT, "token-mismatch"),
            (
                altered(sound, change("id", OTHER_KEY.device_id)),
                None,
                CLAIMED,
                "device-id-mismatch",
            ),
            (
                altered(sound, change("signedAt", NOW_MS - TOO_OLD)),
                None,
                CLAIMED,
                "device-signature-stale",
            ),
            (altered(sound, change("nonce", " ")), None, CLAIMED, "device-nonce-missing"),
            (altered(sound, change("nonce", "x")), None, CLAIMED, "device-nonce-mismatch"),
            (altered(sound, change("signature", "AA")), None, CLAIMED, "device-signature"),
            (connect(profile, token=None), None, PROVEN, "token-missing"),
            (
                connect(profile, token=None, bootstrap_token="b"),
                CLEAR,
                PROVEN,
                "bootstrap-token-invalid",
            ),
            (wrong, Denied(NOW, "device-token-mismatch"), PROVEN, "token-mismatch"),
            (wrong, LockedOut(NOW, 5_000), PROVEN, "rate-limited"),
            (by_token, Denied(NOW, "device-token-mismatch"), PROVEN, "device-token-mismatch"),
            (by_token, Denied(NOW, "scope-mismatch"), PROVEN, "scope-mismatch"),
            (sound, Denied(NOW, "key-mismatch"), PROVEN, "key-mismatch"),
            *(
                (sound, NeedsPairing(NOW, reason, "request-1"), PROVEN, reason)
                for reason in ("not-paired", "role-upgrade", "scope-upgrade", "metadata-upgrade")
            ),
        ]
        for frame, answer, proven, reason in cases:
            report = met(frame, answer)
            assert report.reason == reason
            assert not report.undecided
            place = report.proven if report.device_id else ABSENT
            assert place is proven, reason

    def test_what_nobody_could_decide_is_no_refusal(self) -> None:
        report = met(connect(), TooManyPending(NOW))
        assert (report.reason, report.undecided, report.proven) == ("pending-limit", True, True)
        handshake = new_handshake()
        handshake.on_frame(encoded(connect()), now_ms=NOW_MS)
        recent = RecentRefusals()
        refusal = handshake.on_unavailable("timeout", "approval", retry_after_ms=1)
        recent.note(handshake, REMOTE, refusal, 0.0)
        (report,) = recent.report(1, 0.0)
        assert (report.reason, report.undecided, report.detail) == ("timeout", True, "approval")

    @pytest.mark.parametrize(
        ("origin", "detail"),
        [(ORIGIN, ORIGIN), ("null", "null"), ("https://user:secret@x", ""), ("<script>", "")],
    )
    def test_a_valid_origin_is_reported(self, origin: str, detail: str) -> None:
        report = met(connect(CONTROL_UI), peer=replace(REMOTE, origin=origin))
        assert (report.reason, report.detail) == ("origin", detail)

    def test_facts_that_help(self) -> None:
        frame = altered(connect(), lambda params: params.update(minProtocol=9, maxProtocol=11))
        assert met(frame).detail == "9 to 11"
        answer = NeedsPairing(NOW, "not-paired", "request-1")
        assert met(connect(), answer).detail == "request-1"
        frame = altered(connect(), lambda params: params["client"].pop("id"))
        assert met(frame).detail == "at /client: must have required property 'id'"


class TestReporting:
    def test_until_it_was_answered_again_and_again_as_the_same_run(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        note(recent, Attempt(device(1)))
        (report,) = recent.report(2, 0.0)
        assert (report.number, report.count, report.confirmed) == (1, 2, 0)

    def test_once_it_was_answered_never_again(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        recent.answered(1)
        assert recent.report(2, 0.0) == []
        assert len(recent) == 0

    def test_what_came_after_a_report_stays_and_says_what_is_known_of_it(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        note(recent, Attempt(device(1)))
        recent.report(2, 0.0)
        recent.answered(1)
        (report,) = recent.report(3, 0.0)
        assert (report.number, report.count, report.confirmed) == (1, 2, 1)
        recent.answered(2)
        assert recent.report(4, 0.0) == []

    def test_another_reason_after_a_report_counts_as_unreported(self) -> None:
        recent = RecentRefusals()
        note(recent, Attempt(device(1)))
        recent.report(1, 0.0)
        note(recent, Attempt(device(1)), refusals.SIGNATURE_INVALID)
        recent.answered(1)
        (report,) = recent.report(2, 0.0)
        assert (report.reason, report.confirmed) == ("device-signature", 0)

    def test_each_address_in_turn(self) -> None:
        recent = RecentRefusals(per_beat=4)
        for number in range(10):
            note(recent, Attempt(device(number)), address="192.0.2.1")
        note(recent, Attempt(device(99)), address="192.0.2.2")
        told = [int(one.device_id, 16) for one in recent.report(1, 0.0)]
        assert told == [0, 99, 1, 2]


class TestBounds:
    def test_a_flood_of_invented_devices_displaces_only_its_own(self) -> None:
        recent = RecentRefusals()
        for number in range(REFUSALS_PER_ADDRESS_ENTRIES):
            note(recent, Attempt(device(number)), address="192.0.2.1")
        for number in range(10 * REFUSALS_LIMIT_ENTRIES):
            note(recent, Attempt(device(10**6 + number)), address="192.0.2.2")
        assert len(recent) == 2 * REFUSALS_PER_ADDRESS_ENTRIES
        assert reported(recent, "192.0.2.1") == set(range(REFUSALS_PER_ADDRESS_ENTRIES))

    def test_an_ipv6_network_of_64_bits_is_one_address(self) -> None:
        recent = RecentRefusals()
        for number in range(1000):
            note(recent, Attempt(device(number)), address=f"2001:db8::{number:x}")
        assert len(recent) == REFUSALS_PER_ADDRESS_ENTRIES

    def test_a_flood_from_many_addresses_displaces_those_that_hold_most(self) -> None:
        recent = RecentRefusals(limit=100, per_address=8)
        note(recent, Attempt(device(1), proven=True), address="192.0.2.1")
        for number in range(10_000):
            address = f"10.0.{number % 50}.1"
            note(recent, Attempt(device(10**6 + number)), address=address)
        assert len(recent) == 100
        assert reported(recent, "192.0.2.1") == {1}

    def test_a_heartbeat_never_exceeds_its_size_limit(self) -> None:
        recent = RecentRefusals()
        long = refusals.invalid_params(["\U0001f511" * 1000], 4)
        for number in range(3 * REFUSALS_LIMIT_ENTRIES):
            who = Attempt(device(number), name="\U0001f511" * 128)
            note(recent, who, long, address=f"10.1.{number // 250}.{number % 250}")
        assert len(recent) == REFUSALS_LIMIT_ENTRIES
        reports = recent.report(1, 0.0)
        assert len(reports) == REFUSALS_PER_BEAT_ENTRIES
        question = BeatQuestion(1, NOW, True, 0, 0, refused=reports)
        assert len(encode(question)) < BEAT_LIMIT_BYTES

    def test_a_storm_is_told_in_full_once_it_is_over(self) -> None:
        recent = RecentRefusals(limit=40, per_address=4, per_beat=7)
        for number in range(1000):
            note(recent, Attempt(device(number)), address=f"10.0.0.{number % 20}")
        told = 0
        for beat_id in range(1, 7):
            told += len(recent.report(beat_id, 0.0))
            recent.answered(beat_id)
        assert (told, len(recent)) == (40, 0)

    @given(
        steps=st.lists(
            st.tuples(
                st.integers(0, 6),
                st.integers(0, 9),
                st.sampled_from([STALE, refusals.SIGNATURE_INVALID, refusals.INVALID_ROLE]),
                st.booleans(),
                st.sampled_from(["note", "note", "note", "report", "answered", "late"]),
            ),
            max_size=200,
        )
    )
    @settings(max_examples=300)
    def test_bounds_hold_for_any_sequence(
        self, steps: list[tuple[int, int, Refusal, bool, str]]
    ) -> None:
        recent = RecentRefusals(limit=12, per_address=4, per_beat=5)
        beat_id = 0
        for address, number, refusal, proven, step in steps:
            if step == "note":
                who = Attempt(device(number) if number else "", proven=proven)
                note(recent, who, refusal, address=f"10.0.0.{address}")
                key = (device(number) if number else "", proven and number > 0)
                found = recent._entries[f"10.0.0.{address}"]
                assert any((one.device_id, one.proven) == key for one in found.values()) or (
                    len(recent) == 12
                ), "the newest is kept, unless its address holds most"
            elif step == "report":
                beat_id += 1
                assert len(recent.report(beat_id, 0.0)) <= 5
            else:
                recent.answered(beat_id if step == "answered" else beat_id - 1)
            held = recent._entries
            assert len(recent) == sum(map(len, held.values())) <= 12
            assert all(0 < len(entries) <= 4 for entries in held.values())
            assert [set(group) for group in recent._holders] == [
                {one for one in held if len(held[one]) == count} for count in range(5)
            ]
            for entries in held.values():
                assert all(0 <= one.confirmed < one.count for one in entries.values())


def reported(recent: RecentRefusals, address: str) -> set[int]:
    """Report everything; returns the devices of one address."""
    found: set[int] = set()
    for beat_id in range(1, 1000):
        reports = recent.report(beat_id, 0.0)
        if not reports:
            return found
        found |= {int(one.device_id, 16) for one in reports if one.address == address}
        recent.answered(beat_id)
    raise AssertionError("it never ends")
