"""What is found wrong with an upstream's configuration. The answers are those of 2026.9.6."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from services.cli.upstream_config import upstream_config
from services.gateway.relay.rules.examination import (
    problem_of_refusal,
    problem_of_upgrade,
    problems_of_config,
)
from shared import upstream as known
from shared.upstream import header_names

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "s" * 32
NAMES = [header_names("another" * 5), header_names(SECRET)]
ORIGIN = "https://chat.example"
RIGHT = upstream_config(SECRET, origins=[ORIGIN], replicas=["10.0.0.0/8"], password="p")


def test_what_the_command_prints_is_right() -> None:
    assert problems_of_config(RIGHT, NAMES, [ORIGIN]) == []


def test_more_than_that_may_be_in_it() -> None:
    config = deepcopy(RIGHT)
    config["agents"] = {}
    config["gateway"]["controlUi"]["allowedOrigins"] = ["*"]
    config["gateway"]["auth"]["trustedProxy"]["requiredHeaders"].append("x-more")
    assert problems_of_config(config, NAMES, [ORIGIN, "https://other.example"]) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda g: g["auth"].update(mode="none"), known.AUTH_MODE),
        (lambda g: g["auth"].update(token="__OPENCLAW_REDACTED__"), known.OWN_TOKEN),
        (lambda g: g["auth"]["trustedProxy"].update(userHeader="x-user"), known.HEADERS),
        (lambda g: g["auth"]["trustedProxy"].pop("requiredHeaders"), known.HEADERS),
        (lambda g: g["auth"]["trustedProxy"].update(allowUsers=[]), known.ALLOW_USERS),
        (
            lambda g: g["auth"]["trustedProxy"]["allowUsers"].append("mallory"),
            known.ALLOW_USERS,
        ),
        (lambda g: g["auth"]["identityScopes"].pop("latchkey-relay"), known.RELAY_RIGHTS),
        (
            lambda g: g["auth"]["identityScopes"].update(latchkey=["operator.admin"]),
            known.CLIENT_RIGHTS,
        ),
        (
            lambda g: g["auth"]["trustedProxy"]["deviceAutoApprove"].update(enabled=True),
            known.AUTO_APPROVES,
        ),
        (lambda g: g.pop("nodes"), known.AUTO_APPROVES),
        (lambda g: g["controlUi"].update(allowedOrigins=["https://x.example"]), known.ORIGINS),
    ],
)
def test_each_mistake_has_its_own_name(
    change: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    config = deepcopy(RIGHT)
    change(config["gateway"])
    assert problems_of_config(config, NAMES, [ORIGIN]) == [problem]


@pytest.mark.parametrize("config", [None, [], "x", {}, {"gateway": []}, {"gateway": {"auth": 1}}])
def test_a_configuration_that_is_none_is_wrong_and_breaks_nothing(config: Any) -> None:
    assert known.AUTH_MODE in problems_of_config(config, NAMES, [ORIGIN])


@pytest.mark.parametrize(
    ("reason", "problem"),
    [
        ("trusted_proxy_user_missing", known.HEADERS),
        ("trusted_proxy_missing_header_x-other", known.HEADERS),
        ("trusted_proxy_loopback_source", known.LOOPBACK),
        ("trusted_proxy_user_not_allowed", known.ALLOW_USERS),
        ("token_missing", known.AUTH_MODE),
        ("password_mismatch", known.AUTH_MODE),
        ("something_new", known.REFUSES),
    ],
)
def test_each_reason_of_a_refusal_is_known(reason: str, problem: str) -> None:
    error = {"code": "INVALID_REQUEST", "details": {"authReason": reason}}
    assert problem_of_refusal(error) == problem


def test_a_refusal_without_a_reason_is_reported_as_one() -> None:
    assert problem_of_refusal({}) == problem_of_refusal({"details": "x"}) == known.REFUSES


def test_each_status_of_an_upgrade_is_known() -> None:
    assert problem_of_upgrade(403) == known.PROXY_NOT_TRUSTED
    assert problem_of_upgrade(503) == known.PREAUTH_LIMIT
    assert problem_of_upgrade(200) == known.NO_OPENCLAW


@pytest.mark.parametrize("error", [None, "no", ["no"], {"details": "no"}])
def test_a_refusal_that_is_nonsense_is_a_refusal(error: object) -> None:
    assert problem_of_refusal(error) == known.REFUSES
