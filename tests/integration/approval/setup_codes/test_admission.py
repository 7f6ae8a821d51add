"""Devices that present setup codes, at two replicas: each step at another one than the last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from msgspec.structs import replace

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.setup_codes import KEPT_MS, LIFETIME_MS, PROFILES
from services.approval.storage.keys import guard_key
from shared.rpc.messages import Admitted, Denied, LockedOut, NeedsPairing
from tests.integration.approval.methods.sockets import history
from tests.integration.approval.setup_codes.phones import (
    ANDROID,
    NODE_HOST,
    create,
    fresh_token,
    presents,
    token_in,
)
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from services.approval.domain.records import Pairing
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock

FULL_SCOPES = PROFILES["full"].scopes
INVALID = "setup-code-invalid"
CLI: dict[str, Any] = {"role": "operator", "client": ("openclaw-android", "ui")}


@pytest.fixture(autouse=True)
async def alive(here: Replica, there: Replica) -> None:
    """Learn Redis's time, as each replica does while it announces itself."""
    await here.store.liveness.write_alive("here")
    await there.store.liveness.write_alive("there")


async def pairing_of(replica: Replica, device: Device) -> Pairing:
    _head, (held,) = await replica.store.load([device.device_id])
    assert held.record is not None
    assert held.record.pairing is not None
    return held.record.pairing


async def denied(replica: Replica, question: Any) -> None:
    answer = await replica.answer(question)
    assert isinstance(answer, Denied), answer
    assert answer.why == INVALID


async def admitted(replica: Replica, question: Any) -> Admitted:
    answer = await replica.answer(question)
    assert isinstance(answer, Admitted), answer
    return answer


class TestMatch:
    async def test_a_phone_is_paired_at_once_and_gets_both_tokens(
        self, here: Replica, there: Replica
    ) -> None:
        created = await create(here)
        phone = Device.new()
        found = await admitted(there, presents(phone, token_in(created)))
        assert (found.method, found.token_scopes) == ("bootstrap-token", [])
        assert found.setup_id == created.code.setup_id
        (operator,) = found.more_tokens
        assert (operator.role, tuple(operator.scopes)) == ("operator", FULL_SCOPES)
        paired = await pairing_of(here, phone)
        assert (paired.role, paired.roles, paired.scopes) == (
            "node",
            ("node", "operator"),
            FULL_SCOPES,
        )
        assert paired.approved_via == "bootstrap"
        assert paired.created_at_ms == paired.approved_at_ms
        for token, role, scopes in (
            (found.device_token, "node", ()),
            (operator.device_token, "operator", ("operator.admin", "operator.pairing")),
        ):
            asked = phone.asks(scopes, token=token, **{**ANDROID, "role": role})
            assert (await admitted(here, asked)).method == "device-token"

    @pytest.mark.parametrize("profile", ["node", "voice-node", "limited"])
    async def test_other_profiles(self, here: Replica, there: Replica, profile: str) -> None:
        created = await create(here, profile)
        asked = dict(NODE_HOST if "node" in profile else ANDROID)
        if profile == "voice-node":
            asked |= {"platform": "esp32", "family": "ESP32"}
        device = Device.new()
        found = await admitted(there, presents(device, token_in(created), **asked))
        scopes = PROFILES[profile].scopes
        assert [tuple(one.scopes) for one in found.more_tokens] == ([scopes] if scopes else [])
        assert (await pairing_of(here, device)).scopes == scopes

    async def test_a_used_code_is_invalid_for_everybody(
        self, here: Replica, there: Replica
    ) -> None:
        created = await create(here)
        phone = Device.new()
        await admitted(there, presents(phone, token_in(created)))
        await denied(here, presents(phone, token_in(created)))
        await denied(there, presents(Device.new(), token_in(created)))

    async def test_the_same_question_again_has_the_same_answer(
        self, here: Replica, there: Replica
    ) -> None:
        created = await create(here)
        question = presents(Device.new(), token_in(created))
        first = await admitted(here, question)
        assert await admitted(there, question) == first
        # Asked anew by the same connection, because a change made the first answer stale.
        anew = replace(question, call_id=f"{question.call_id}#2")
        again = await admitted(there, anew)
        assert (again.device_token, again.more_tokens) == (first.device_token, first.more_tokens)
        assert again.setup_id == first.setup_id

    async def test_the_audit_log_names_the_code_that_decided(self, here: Replica) -> None:
        created = await create(here)
        phone = Device.new()
        await admitted(here, presents(phone, token_in(created), address="203.0.113.9", **ANDROID))
        setup_id = created.code.setup_id
        entries = [one for one in await history(here) if one.action != "token-issued"]
        assert [(one.action, one.actor, one.setup_id) for one in entries] == [
            ("setup-code-created", "operator:admin", setup_id),
            ("approved", f"setup-code:{setup_id}", ""),
            ("setup-code-bound", f"device {phone.device_id}", setup_id),
            ("setup-code-redeemed", f"setup-code:{setup_id}", setup_id),
        ]
        redeemed = entries[-1]
        assert (redeemed.reason, redeemed.roles, redeemed.scopes, redeemed.address) == (
            "new",
            ("node", "operator"),
            FULL_SCOPES,
            "203.0.113.9",
        )

    async def test_an_older_request_does_not_block(self, here: Replica, there: Replica) -> None:
        phone = Device.new()
        older = await here.request(phone.asks(("operator.pairing",), **CLI))
        created = await create(there)
        found = await admitted(there, presents(phone, token_in(created)))
        assert found.more_tokens
        paired = await pairing_of(here, phone)
        assert "operator.pairing" not in paired.scopes
        approved = next(one for one in there.published if one.kind == "approved")
        assert approved.superseded_id == older.request_id
        assert await here.registry.pending(OPERATOR) == []

    async def test_expired(self, here: Replica, there: Replica, clock: FakeClock) -> None:
        created = await create(here)
        clock.advance(LIFETIME_MS / 1000)
        await denied(there, presents(Device.new(), token_in(created)))
        assert await here.setup_codes.live(OPERATOR) == []

    async def test_revoked(self, here: Replica, there: Replica) -> None:
        created = await create(here)
        await there.setup_codes.revoke(OPERATOR, created.code.setup_id)
        await denied(here, presents(Device.new(), token_in(created)))


class TestPairedAlready:
    async def test_enough_rights_the_same_tokens_again(self, here: Replica, there: Replica) -> None:
        phone = Device.new()
        first = await admitted(here, presents(phone, token_in(await create(here))))
        again = await admitted(there, presents(phone, token_in(await create(here, "limited"))))
        assert again.device_token == first.device_token
        assert again.more_tokens == first.more_tokens  # the full operator token
        assert [one.kind for one in there.published if one.kind == "approved"] == []

    async def test_fewer_rights_are_widened_and_sockets_end(
        self, here: Replica, there: Replica
    ) -> None:
        phone = Device.new()
        first = await admitted(here, presents(phone, token_in(await create(here, "limited"))))
        wider = await admitted(there, presents(phone, token_in(await create(here))))
        assert wider.device_token != first.device_token
        assert tuple(wider.more_tokens[0].scopes) == FULL_SCOPES
        approved = next(one for one in there.published if one.kind == "approved")
        assert approved.closes == ["*"]
        old = phone.asks((), token=first.device_token, **ANDROID)
        answer = await here.answer(old)
        assert isinstance(answer, Denied)

    async def test_owner_stays_owner(self, here: Replica, there: Replica) -> None:
        phone = Device.new()
        request = await here.request(phone.asks((), **ANDROID))
        await here.registry.approve(OPERATOR, request.request_id)
        await admitted(there, presents(phone, token_in(await create(here))))
        assert (await pairing_of(here, phone)).approved_via == "owner"

    async def test_operator_only_needs_a_role_upgrade(self, here: Replica, there: Replica) -> None:
        phone = Device.new()
        await here.pair(phone, **{**ANDROID, "role": "operator"})
        created = await create(here)
        answer = await there.answer(presents(phone, token_in(created)))
        assert isinstance(answer, NeedsPairing)
        assert answer.reason == "role-upgrade"
        (code,) = await here.setup_codes.live(OPERATOR)
        assert code.device_id == phone.device_id

    async def test_revoked_node_needs_a_role_upgrade(self, here: Replica, there: Replica) -> None:
        phone = Device.new()
        await admitted(here, presents(phone, token_in(await create(here))))
        await here.registry.revoke(OPERATOR, phone.device_id, "node")
        answer = await there.answer(presents(phone, token_in(await create(here))))
        assert isinstance(answer, NeedsPairing)
        assert answer.reason == "role-upgrade"

    async def test_another_platform_needs_approval_a_version_does_not(
        self, here: Replica, there: Replica
    ) -> None:
        phone = Device.new()
        await admitted(here, presents(phone, token_in(await create(here))))
        newer = {**ANDROID, "platform": "Android 16"}
        await admitted(there, presents(phone, token_in(await create(here)), **newer))
        ios: dict[str, Any] = {
            "role": "node",
            "client": ("openclaw-ios", "node"),
            "platform": "iOS 19",
            "family": "iPhone",
        }
        answer = await there.answer(presents(phone, token_in(await create(here)), **ios))
        assert isinstance(answer, NeedsPairing)
        assert answer.reason == "metadata-upgrade"

    async def test_removed_devices_are_unknown_again(self, here: Replica, there: Replica) -> None:
        phone = Device.new()
        await admitted(here, presents(phone, token_in(await create(here))))
        await here.registry.remove(OPERATOR, phone.device_id)
        await admitted(there, presents(phone, token_in(await create(here))))

    async def test_another_key_under_the_same_id(self, here: Replica) -> None:
        phone = Device.new()
        await admitted(here, presents(phone, token_in(await create(here))))
        stolen = replace(
            presents(phone, token_in(await create(here))), public_key=Device.new().public_key
        )
        answer = await here.answer(stolen)
        assert isinstance(answer, Denied)
        assert answer.why == "key-mismatch"


class TestNoMatch:
    """A client of another kind: the code is bound, and a person decides."""

    node: ClassVar[dict[str, Any]] = {**ANDROID, "client": ("openclaw-macos", "node")}

    async def test_approved_by_hand_both_legs_use_the_code_up(
        self, here: Replica, there: Replica
    ) -> None:
        created = await create(here)
        device, token = Device.new(), token_in(created)
        asked = presents(device, token, **self.node)
        first = await here.answer(asked)
        assert isinstance(first, NeedsPairing)
        assert (first.reason, first.by_setup_code) == ("not-paired", True)
        again = await there.answer(presents(device, token, **self.node))
        assert isinstance(again, NeedsPairing)
        assert again.request_id == first.request_id
        assert [one.kind for one in there.published if one.kind == "requested"] == []
        await denied(there, presents(Device.new(), token, **self.node))
        await there.registry.approve(OPERATOR, first.request_id)
        found = await admitted(here, presents(device, token, **self.node))
        assert (found.more_tokens, found.setup_id) == ([], "")
        assert (await pairing_of(here, device)).approved_via == "owner"
        operator = {**self.node, "role": "operator"}
        upgrade = await there.answer(presents(device, token, *FULL_SCOPES, **operator))
        assert isinstance(upgrade, NeedsPairing)
        assert upgrade.reason == "role-upgrade"
        await here.registry.approve(OPERATOR, upgrade.request_id)
        done = await admitted(there, presents(device, token, *FULL_SCOPES, **operator))
        assert done.setup_id == created.code.setup_id
        await denied(here, presents(device, token, **self.node))

    async def test_until_it_is_used_up_the_device_may_reconnect(
        self, here: Replica, there: Replica
    ) -> None:
        created = await create(here)
        device, token = Device.new(), token_in(created)
        first = await here.request(presents(device, token, **self.node))
        await here.registry.approve(OPERATOR, first.request_id)
        for replica in (here, there, here):
            await admitted(replica, presents(device, token, **self.node))

    @pytest.mark.parametrize("many", [False, True])
    async def test_rejection_revokes_the_code(
        self, here: Replica, there: Replica, *, many: bool
    ) -> None:
        created = await create(here)
        device, token = Device.new(), token_in(created)
        first = await here.request(presents(device, token, **self.node))
        if many:
            await there.registry.reject_all(OPERATOR, [first.request_id])
        else:
            await there.registry.reject(OPERATOR, first.request_id)
        await denied(here, presents(device, token, **self.node))
        assert (await here.setup_codes.read(OPERATOR, created.code.setup_id)).revoked_at_ms

    async def test_a_wider_request_keeps_the_code(self, here: Replica, there: Replica) -> None:
        """Rejecting the request that supersedes the first one revokes the code as well."""
        created = await create(here)
        device, token = Device.new(), token_in(created)
        await here.request(presents(device, token, **self.node))
        wider = await there.request(device.asks(("operator.read",), **CLI))
        await here.registry.reject(OPERATOR, wider.request_id)
        await denied(there, presents(device, token, **self.node))

    async def test_operator_first_stages_that_leg(self, here: Replica, there: Replica) -> None:
        created = await create(here)
        device, token = Device.new(), token_in(created)
        first = await here.answer(presents(device, token, "operator.read", **CLI))
        assert isinstance(first, NeedsPairing)
        await denied(there, presents(device, token))
        await denied(there, presents(device, token, "operator.write", **CLI))
        again = await there.answer(presents(device, token, "operator.read", **CLI))
        assert isinstance(again, NeedsPairing)
        assert again.request_id == first.request_id

    async def test_a_wrong_role_or_scope_does_not_bind(self, here: Replica, there: Replica) -> None:
        created = await create(here, "limited")
        token = token_in(created)
        await denied(here, presents(Device.new(), token, "operator.admin", **CLI))
        await denied(there, presents(Device.new(), token, "operator.read", **ANDROID))
        (code,) = await here.setup_codes.live(OPERATOR)
        assert code.device_id == ""
        await admitted(there, presents(Device.new(), token))


class TestOtherCredentials:
    async def test_a_code_beside_a_right_gateway_token_is_used(self, here: Replica) -> None:
        question = presents(Device.new(), token_in(await create(here)))
        found = await admitted(here, replace(question, method="token"))
        assert found.method == "bootstrap-token"

    async def test_a_bad_code_beside_a_right_gateway_token(self, here: Replica) -> None:
        question = replace(presents(Device.new(), fresh_token()), method="token")
        answer = await here.answer(question)
        assert isinstance(answer, NeedsPairing)
        assert not answer.by_setup_code
        assert not await here.redis.exists(guard_key(""))

    async def test_a_used_code_beside_a_good_device_token(
        self, here: Replica, there: Replica
    ) -> None:
        phone, token = Device.new(), token_in(await create(here))
        first = await admitted(here, presents(phone, token))
        found = await admitted(there, presents(phone, token, also=first.device_token, **ANDROID))
        assert found.method == "device-token"

    async def test_a_good_code_beside_a_good_device_token_is_used(
        self, here: Replica, there: Replica
    ) -> None:
        phone = Device.new()
        first = await admitted(here, presents(phone, token_in(await create(here))))
        token = token_in(await create(here))
        found = await admitted(there, presents(phone, token, also=first.device_token, **ANDROID))
        assert (found.method, bool(found.setup_id)) == ("bootstrap-token", True)


class TestLockout:
    address = "203.0.113.77"

    def guess(self) -> Any:
        return presents(Device.new(), fresh_token(), address=self.address, **ANDROID)

    async def test_ten_wrong_codes_lock_the_class_at_all_replicas(
        self, here: Replica, there: Replica
    ) -> None:
        good = token_in(await create(here))
        for number in range(10):
            answer = await (here, there)[number % 2].answer(self.guess())
            assert isinstance(answer, Denied)
        for replica in (here, there):
            answer = await replica.answer(
                presents(Device.new(), good, address=self.address, **ANDROID)
            )
            assert isinstance(answer, LockedOut)
            assert 290_000 < answer.retry_after_ms <= 300_000
        # Other credentials of the address keep working.
        known = await here.paired()
        asked = known.asks(address=self.address)
        await admitted(there, asked)
        elsewhere = presents(Device.new(), good, address="203.0.113.78", **ANDROID)
        await admitted(there, elsewhere)

    async def test_one_stale_client_locks_nobody_out(self, here: Replica) -> None:
        token = fresh_token()
        for _ in range(15):
            asked = presents(Device.new(), token, address=self.address, **ANDROID)
            answer = await here.answer(asked)
            assert isinstance(answer, Denied)
        refused = [one for one in await history(here) if one.action == "setup-code-refused"]
        assert [(one.reason, one.address) for one in refused] == [("unknown", self.address)]

    async def test_success_resets_the_class(self, here: Replica, there: Replica) -> None:
        for _ in range(9):
            await here.answer(self.guess())
        good = token_in(await create(here))
        await admitted(there, presents(Device.new(), good, address=self.address, **ANDROID))
        for _ in range(9):
            assert isinstance(await here.answer(self.guess()), Denied)

    async def test_the_audit_log_says_why(self, here: Replica) -> None:
        created = await create(here)
        token = token_in(created)
        await admitted(here, presents(Device.new(), token))
        thief = presents(Device.new(), token, address=self.address, **ANDROID)
        await denied(here, thief)
        entry = (await history(here))[-1]
        assert (entry.action, entry.reason, entry.setup_id, entry.address) == (
            "setup-code-refused",
            "used",
            created.code.setup_id,
            self.address,
        )


class TestRaces:
    """Two devices with one code, at two replicas, fifty times."""

    async def test_exactly_one_device_gets_in(self, here: Replica, there: Replica) -> None:
        for _ in range(50):
            token = token_in(await create(here))
            first, second = Device.new(), Device.new()
            answers = await asyncio.gather(
                here.answer(presents(first, token)), there.answer(presents(second, token))
            )
            kinds = sorted(type(one).__name__ for one in answers)
            assert kinds == ["Admitted", "Denied"], answers
            winner, loser = (first, second) if isinstance(answers[0], Admitted) else (second, first)
            await pairing_of(here, winner)
            _head, (held,) = await here.store.load([loser.device_id])
            assert held.record is None

    async def test_the_same_device_twice_gets_one_set_of_tokens(
        self, here: Replica, there: Replica
    ) -> None:
        for _ in range(50):
            token, phone = token_in(await create(here)), Device.new()
            answers = await asyncio.gather(
                here.answer(presents(phone, token)), there.answer(presents(phone, token))
            )
            kinds = sorted(type(one).__name__ for one in answers)
            assert kinds == ["Admitted", "Denied"], answers

    async def test_a_rejection_and_a_retry(self, here: Replica, there: Replica) -> None:
        """After a rejection the code is dead, however the two are ordered."""
        for _ in range(20):
            device, token = Device.new(), token_in(await create(here))
            first = await here.request(presents(device, token, **TestNoMatch.node))
            await asyncio.gather(
                here.registry.reject(OPERATOR, first.request_id),
                there.answer(presents(device, token, **TestNoMatch.node)),
            )
            await denied(there, presents(device, token, **TestNoMatch.node))


async def test_outcomes_are_kept_for_a_while(here: Replica) -> None:
    created = await create(here)
    await admitted(here, presents(Device.new(), token_in(created)))
    key = f"latchkey:setup:code:{created.code.setup_id}"
    left_ms = await here.redis.pttl(key)
    assert KEPT_MS - 60_000 < left_ms <= KEPT_MS
    assert await here.redis.zcard("latchkey:setup:live") == 0
