"""Operators signed in by an identity-aware proxy: whom its headers name, and the settings."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.approval.access.proxy_identity import ProxySignIn, identify
from services.approval.domain.permissions import Permission
from services.approval.settings import read_settings
from shared.settings.environment import SettingsError

SIGN_IN = ProxySignIn(
    "X-User",
    "X-Groups",
    {"alice@example.com": Permission.DECIDE},
    {"sre": Permission.MANAGE, "staff": Permission.VIEW},
)


@pytest.mark.parametrize(
    ("user", "groups", "permission"),
    [
        ("alice@example.com", [], Permission.DECIDE),
        ("alice@example.com", ["staff"], Permission.DECIDE),
        ("alice@example.com", ["staff, sre"], Permission.MANAGE),
        ("bob@example.com", ["staff"], Permission.VIEW),
        ("bob@example.com", [" sre ,x"], Permission.MANAGE),
    ],
)
def test_the_highest_permission_applies(
    user: str, groups: list[str], permission: Permission
) -> None:
    found = identify(SIGN_IN, [user], groups)
    assert found == ("accepted", f"sso:{user}", permission)


@pytest.mark.parametrize("groups", [[], [""], ["SRE"], ["sre staff"], ["srestaff"], [",,"]])
def test_nobody_without_a_mapping_gets_in(groups: list[str]) -> None:
    assert identify(SIGN_IN, ["bob@example.com"], groups).permission is None
    assert identify(SIGN_IN, ["Alice@example.com"], groups).permission is None


@pytest.mark.parametrize(
    ("users", "groups"),
    [
        (["alice@example.com", "alice@example.com"], []),
        (["alice@example.com", "bob@example.com"], []),
        (["alice@example.com,bob@example.com"], []),
        (["alice@example.com, alice@example.com"], []),
        (["alice@example.com"], ["sre", "sre"]),
        ([], ["sre"]),
    ],
)
def test_repeated_headers_are_refused(users: list[str], groups: list[str]) -> None:
    assert identify(SIGN_IN, users, groups) == ("ambiguous", "", None)


@pytest.mark.parametrize(
    "user", ["", " ", "<b>x</b>", "a b", "a\tb", "a\u202eb", "a'b", "x" * 201, "\udc80"]
)
def test_unusable_names_are_refused(user: str) -> None:
    assert identify(SIGN_IN, [user], ["sre"]) == ("invalid", "", None)


@given(st.lists(st.text(max_size=30), max_size=3), st.lists(st.text(max_size=60), max_size=3))
def test_only_mapped_users_and_groups_are_ever_accepted(
    users: list[str], groups: list[str]
) -> None:
    found = identify(SIGN_IN, users, groups)
    if found.permission is not None:
        (user,) = users
        mapped = user.strip() in SIGN_IN.by_user
        assert mapped or {part.strip() for part in ",".join(groups).split(",")} & {"sre", "staff"}
        assert found.name.startswith("sso:")


def settings(**given: str) -> ProxySignIn:
    environ = {
        "REDIS_URL": "redis://127.0.0.1",
        "BUS_SECRET": secrets.token_hex(32),
        "TOKEN_SECRET": secrets.token_hex(32),
        "APPROVAL_ADMIN_TOKEN": secrets.token_hex(32),
    }
    return read_settings(environ | given).proxy_sign_in


USER = {"OPERATOR_PROXY_USER_HEADER": "X-User", "TRUSTED_PROXIES": "10.0.0.0/8"}


def test_it_is_off_by_default() -> None:
    assert settings() == ProxySignIn()


def test_settings_are_read() -> None:
    found = settings(
        **USER,
        OPERATOR_PROXY_GROUPS_HEADER="X-Groups",
        OPERATOR_PROXY_PERMISSIONS=(
            "group:sre=manage, group:staff = view,user:alice@example.com=decide"
        ),
    )
    assert found == SIGN_IN


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        (
            {"OPERATOR_PROXY_USER_HEADER": "X-User", "OPERATOR_PROXY_PERMISSIONS": "user:a=view"},
            ["OPERATOR_PROXY_USER_HEADER needs TRUSTED_PROXIES: nobody else is believed"],
        ),
        (
            USER,
            [
                (
                    "OPERATOR_PROXY_USER_HEADER needs OPERATOR_PROXY_PERMISSIONS: without it, nobody"
                    " gets in"
                )
            ],
        ),
        (
            {**USER, "OPERATOR_PROXY_PERMISSIONS": "group:sre=manage"},
            ["OPERATOR_PROXY_PERMISSIONS names groups, so it needs OPERATOR_PROXY_GROUPS_HEADER"],
        ),
        (
            {"OPERATOR_PROXY_PERMISSIONS": "user:a=view", "OPERATOR_PROXY_GROUPS_HEADER": "X-G"},
            [
                "OPERATOR_PROXY_GROUPS_HEADER needs OPERATOR_PROXY_USER_HEADER",
                "OPERATOR_PROXY_PERMISSIONS needs OPERATOR_PROXY_USER_HEADER",
            ],
        ),
        (
            {**USER, "OPERATOR_PROXY_PERMISSIONS": "user:a=view,user:a=manage"},
            ["OPERATOR_PROXY_PERMISSIONS: user:a has two permissions"],
        ),
        (
            {
                **USER,
                "OPERATOR_PROXY_PERMISSIONS": "user:a=view",
                "OPERATOR_PROXY_GROUPS_HEADER": "x-user",
            },
            ["OPERATOR_PROXY_GROUPS_HEADER must not be OPERATOR_PROXY_USER_HEADER"],
        ),
    ],
)
def test_all_problems_are_reported(given: dict[str, str], problems: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        settings(**given)
    assert list(error.value.problems) == problems


@pytest.mark.parametrize(
    "mapping", ["sre=manage", "group:sre", "group:=manage", "group:sre=root", "user:a=", "x:a=view"]
)
def test_malformed_mappings_are_reported(mapping: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings(**USER, OPERATOR_PROXY_PERMISSIONS=f"user:a=view,{mapping}")
    assert list(error.value.problems) == [
        (
            f"OPERATOR_PROXY_PERMISSIONS: {mapping} must be group:NAME=PERMISSION or"
            " user:NAME=PERMISSION, with view, decide or manage"
        )
    ]


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Forwarded-For", "X User", "X:"])
def test_headers_with_another_meaning_are_refused(name: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings(
            **{**USER, "OPERATOR_PROXY_USER_HEADER": name},
            OPERATOR_PROXY_PERMISSIONS="user:a=view",
        )
    assert list(error.value.problems) == [
        f"OPERATOR_PROXY_USER_HEADER={name}: must be the name of a header of its own"
    ]
