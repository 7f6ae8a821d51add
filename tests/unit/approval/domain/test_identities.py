"""What a device may change about itself without approval, and what a request shows of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.approval.domain import policy
from services.approval.domain.identities import APPROVED_LIMIT, ASKING_LIMIT, as_seen, identities_of
from services.approval.domain.records import LastSeen
from tests.unit.approval.domain.policy_case import TTL_MS, PolicyCase
from tests.unit.approval.domain.strategies import CLI, CLIENTS, IOS_APP, NAMES, NODE_HOST, PLATFORMS

READ, ADMIN = "operator.read", "operator.admin"
MAC_APP, ANDROID_APP = ("openclaw-macos", "ui"), ("openclaw-android", "ui")
WATCH_APP = ("openclaw-watchos", "ui")


def claim(client: tuple[str, str], platform: str, family: str = "", name: str = "") -> Any:
    """Return a device's description of itself, as PolicyCase takes it."""
    return {"client": client, "platform": platform, "family": family, "name": name}


class TestOfAPairedDevice:
    @pytest.mark.parametrize(
        ("approved", "now"),
        [
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "iOS 26.5.0", "iPhone")),
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, " ios 9", "iPHONE ")),
            (claim(IOS_APP, "iOS 18", "iPad"), claim(IOS_APP, "iPadOS 26.5", "iPad")),
            (
                claim(ANDROID_APP, "Android 15", "Android"),
                claim(ANDROID_APP, "Android 16", "Android"),
            ),
            (
                claim(ANDROID_APP, "Android 16", "Android"),
                claim(ANDROID_APP, "Android 15", "Android"),
            ),
            (
                claim(WATCH_APP, "watchOS 26.0", "Watch"),
                claim(WATCH_APP, "watchOS 26.0.1", "Watch"),
            ),
            (claim(MAC_APP, "macOS 15.4", "Mac"), claim(MAC_APP, "macOS 26", "Mac")),
            (claim(MAC_APP, "darwin", "Mac"), claim(MAC_APP, "macOS 26.1", "Mac")),
            (claim(NODE_HOST, "darwin", "Mac"), claim(NODE_HOST, "macos", "Mac")),
            (claim(NODE_HOST, "macos", "Mac"), claim(NODE_HOST, "darwin")),
            (claim(NODE_HOST, "win32"), claim(NODE_HOST, "windows", "Windows")),
            (claim(NODE_HOST, "Windows", "windows"), claim(NODE_HOST, "win32")),
            (claim(NODE_HOST, "linux", "Linux"), claim(NODE_HOST, "linux")),
            (claim(CLI, "darwin"), claim(CLI, "macos", "Mac")),
            (claim(CLI, "win32"), claim(CLI, "windows", "Windows")),
            (claim(MAC_APP, "macOS 15.4", "Mac"), claim(NODE_HOST, "darwin")),
        ],
    )
    def test_an_update_or_an_equal_name_needs_no_approval(
        self, approved: dict[str, Any], now: dict[str, Any]
    ) -> None:
        case = PolicyCase()
        case.pair(READ, **approved)
        assert case.admit(READ, **now).changed is None

    @pytest.mark.parametrize(
        ("approved", "now"),
        [
            (claim(CLI, "linux", "Linux"), claim(CLI, "darwin", "Linux")),
            (claim(CLI, "linux"), claim(CLI, "darwin")),
            (claim(CLI, "linux 6.1"), claim(CLI, "linux 6.2")),
            (claim(CLI, "darwin", "Mac"), claim(CLI, "macos", "Mac")),
            (claim(CLI, "darwin"), claim(CLI, "macos", "Windows")),
            (claim(CLI, "macos"), claim(CLI, "darwin")),
            (claim(CLI, "linux", "Linux"), claim(CLI, "linux")),
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "iOS 26.5.0", "iPad")),
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "iOS 26.5.0")),
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "Android 16", "iPhone")),
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "iOSlike 26", "iPhone")),
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "", "iPhone")),
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(CLI, "iOS 26.5.0", "iPhone")),
            (claim(CLI, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "iOS 26.5.0", "iPhone")),
            (claim(IOS_APP, "Android 15"), claim(ANDROID_APP, "Android 16")),
            (claim(WATCH_APP, "watchOS 26"), claim(WATCH_APP, "watchOS 26 beta")),
            (claim(MAC_APP, "macOS 26"), claim(MAC_APP, "darwin")),
            (claim(MAC_APP, "linux"), claim(MAC_APP, "macOS 26.1")),
            (claim(NODE_HOST, "linux", "Linux"), claim(NODE_HOST, "darwin")),
            (claim(NODE_HOST, "linux", "Linux"), claim(NODE_HOST, "linux", "Mac")),
            (claim(NODE_HOST, "darwin"), claim(NODE_HOST, "windows")),
            (claim(("node-host", "cli"), "darwin"), claim(("node-host", "cli"), "macos")),
            (claim(MAC_APP, "macOS 15.4", "Mac"), claim(NODE_HOST, "linux", "Mac")),
        ],
    )
    def test_another_system_or_family_does(
        self, approved: dict[str, Any], now: dict[str, Any]
    ) -> None:
        case = PolicyCase()
        case.pair(READ, **approved)
        assert case.ask(READ, **now).reason == "metadata-upgrade"

    def test_each_client_is_held_against_what_was_approved_for_it(self) -> None:
        case = PolicyCase()
        case.pair(READ, **claim(CLI, "linux", "Linux"))
        case.ask(role="node", **claim(NODE_HOST, "darwin", "Mac"))
        case.approve()
        case.admit(READ, **claim(CLI, "linux", "Linux"))
        case.admit(role="node", **claim(NODE_HOST, "macos", "Mac"))
        assert case.ask(READ, **claim(CLI, "darwin", "Mac")).reason == "metadata-upgrade"
        case.approve()
        case.admit(READ, **claim(CLI, "darwin", "Mac"))
        assert case.ask(READ, **claim(CLI, "linux", "Linux")).reason == "metadata-upgrade"

    def test_another_client_in_the_role_is_held_against_all_of_that_role(self) -> None:
        case = PolicyCase()
        case.pair(READ, **claim(CLI, "linux", "Linux"))
        case.ask(role="node", **claim(NODE_HOST, "darwin", "Mac"))
        case.approve()
        tui = ("openclaw-tui", "ui")
        case.admit(READ, **claim(tui, "linux", "Linux"))
        assert case.ask(READ, **claim(tui, "darwin", "Mac")).reason == "metadata-upgrade"

    def test_a_limited_number_is_kept_and_the_oldest_are_dropped(self) -> None:
        case = PolicyCase()
        for number in range(APPROVED_LIMIT + 3):
            case.ask(ADMIN, **claim(("cli", f"mode{number}"), f"system {number}"))
            case.approve()
        held = [identity.platform for identity in identities_of(case.pairing)]
        assert held == [f"system {number}" for number in range(APPROVED_LIMIT + 2, 2, -1)]


class TestOfARequest:
    def test_roles_of_two_clients_alternate_under_one_id(self) -> None:
        """The command line and the node host of one installation share a key."""
        case = PolicyCase()
        cli = {"role": "operator", **claim(CLI, "linux", "Linux")}
        node = {"role": "node", **claim(NODE_HOST, "linux", "Linux", "box")}
        first = case.ask(READ, **cli).pending
        both = case.ask(**node).pending
        assert both.request_id != first.request_id
        for _ in range(3):
            case.now_ms += policy.REFRESH_MIN_MS
            for asked in (case.ask(READ, **cli), case.ask(**node)):
                assert (asked.kind, asked.pending.request_id) == ("", both.request_id)
        assert (both.roles, both.scopes) == (("operator", "node"), (READ,))
        assert [
            (identity.role, identity.client_id, identity.display_name)
            for identity in identities_of(both)
        ] == [
            ("node", "node-host", "box"),
            ("operator", "cli", ""),
        ]
        case.approve()
        case.admit(READ, **cli)
        case.admit(**node)

    def test_scopes_and_roles_of_a_paired_device_alternate_under_one_id(self) -> None:
        case = PolicyCase()
        case.pair(READ)
        case.ask(role="node", client=NODE_HOST)
        last = case.ask(ADMIN).pending.request_id
        for _ in range(2):
            case.now_ms += policy.REFRESH_MIN_MS
            assert case.ask(role="node", client=NODE_HOST).pending.request_id == last
            assert case.ask(ADMIN).pending.request_id == last
            case.admit(READ)
        case.now_ms += TTL_MS
        assert case.ask(role="node", client=NODE_HOST).pending.roles == ("node",)

    @pytest.mark.parametrize(
        "change",
        [{"name": "Other"}, {"platform": "darwin"}, {"family": "Mac"}, {"client": NODE_HOST}],
    )
    def test_what_is_shown_changes_under_another_id_alone(self, change: dict[str, Any]) -> None:
        case = PolicyCase()
        first = case.ask(READ, name="Kitchen").pending
        case.now_ms += policy.REFRESH_MIN_MS
        asked = case.ask(READ, **({"name": "Kitchen"} | change))
        assert (asked.kind, asked.superseded) == ("requested", first.request_id)
        assert asked.pending.others == identities_of(first), "both are shown, and both approved"
        for same in (change, {}):
            again = case.ask(READ, **({"name": "Kitchen"} | same))
            assert (again.pending, again.changed) == (asked.pending, None)

    @pytest.mark.parametrize(
        ("shown", "now"),
        [
            (claim(IOS_APP, "iOS 26.4.2", "iPhone"), claim(IOS_APP, "iOS 26.5.0", "iPhone")),
            (claim(NODE_HOST, "darwin"), claim(NODE_HOST, "macos", "Mac")),
            (claim(CLI, "linux", "Linux", "Kitchen"), claim(CLI, " Linux", "linux")),
        ],
    )
    def test_an_update_or_a_name_left_out_keeps_the_id(
        self, shown: dict[str, Any], now: dict[str, Any]
    ) -> None:
        case = PolicyCase()
        first = case.ask(READ, **shown).pending
        assert case.ask(READ, **now).pending == first
        case.approve()
        case.admit(READ, **now)

    def test_a_name_left_out_is_kept_when_more_is_asked(self) -> None:
        case = PolicyCase()
        case.ask(READ, name="Kitchen")
        wider = case.ask(ADMIN).pending
        assert [identity.display_name for identity in identities_of(wider)] == ["Kitchen"]

    def test_a_device_that_flips_its_name_can_be_approved(self) -> None:
        case = PolicyCase()
        asked = [case.ask(READ, name=f"name {number}") for number in range(50)]
        ids = [request.pending.request_id for request in asked]
        assert len(set(ids)) == ASKING_LIMIT
        assert ids[ASKING_LIMIT - 1 :] == [ids[-1]] * (51 - ASKING_LIMIT)
        shown = [identity.display_name for identity in identities_of(asked[-1].pending)]
        assert shown == [f"name {number}" for number in range(ASKING_LIMIT - 1, -1, -1)]
        case.approve()
        assert [identity.display_name for identity in identities_of(case.pairing)] == shown[:1]

    @given(
        asked=st.lists(
            st.tuples(
                st.sampled_from(("operator", "node")),
                st.sampled_from(CLIENTS),
                st.sampled_from(PLATFORMS),
                st.sampled_from(NAMES),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def test_whatever_alternates_comes_to_rest_at_one_id(
        self, asked: list[tuple[str, tuple[str, str], str, str]]
    ) -> None:
        """Once everything was requested once, repetitions create no new request."""
        case = PolicyCase()

        def once() -> set[str]:
            return {
                case.ask(role=role, client=client, platform=platform, name=name).pending.request_id
                for role, client, platform, name in asked
            }

        once()
        before = case.record
        assert len(once()) == 1
        assert case.record == before


class TestAsSeen:
    @pytest.fixture
    def case(self) -> PolicyCase:
        case = PolicyCase()
        case.pair(READ, **claim(IOS_APP, "iOS 26.4.2", "iPhone", "Phone"))
        return case

    def test_the_name_and_the_version_that_it_came_with_last(self, case: PolicyCase) -> None:
        at = case.now_ms + 5
        platforms = {"openclaw-ios": "iOS 26.5.0"}
        about = as_seen(case.pairing, LastSeen(at, "connect", "", {}, "Pocket", at, platforms, at))
        assert (about.display_name, about.platform) == ("Pocket", "iOS 26.5.0")
        assert (about.device_family, about.client_id) == ("iPhone", "openclaw-ios")

    @pytest.mark.parametrize(
        "platforms", [{"openclaw-ios": "Android"}, {"openclaw-macos": "iOS 1"}]
    )
    def test_nothing_but_its_own_system(self, case: PolicyCase, platforms: dict[str, str]) -> None:
        at = case.now_ms + 5
        seen = LastSeen(at, "connect", "", {}, "", 0, platforms, at)
        assert as_seen(case.pairing, seen) is case.pairing.metadata

    def test_the_name_from_before_where_none_was_approved(self, case: PolicyCase) -> None:
        seen = LastSeen(case.now_ms + 5, "connect", "", {}, "Phone", case.now_ms + 5)
        case.now_ms += 10
        case.pair(ADMIN, **claim(IOS_APP, "iOS 26.4.2", "iPhone"))
        assert as_seen(case.pairing, seen).display_name == "Phone"

    def test_nothing_from_before_it_was_approved(self, case: PolicyCase) -> None:
        at = case.now_ms - 1
        platforms = {"openclaw-ios": "iOS 9"}
        seen = LastSeen(at + 5, "connect", "", {}, "Old", at, platforms, at)
        assert as_seen(case.pairing, seen) is case.pairing.metadata
