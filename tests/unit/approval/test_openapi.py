"""The OpenAPI description matches the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval import problems
from services.approval.api.openapi import describe
from services.approval.api.operations import OPERATIONS
from services.approval.api.parameters import PARAMETERS, AuditQuery
from services.approval.api.public import METRICS, PAGES, Description
from services.approval.backup.records import BackupToken
from services.approval.domain import errors, records
from services.approval.domain.records import Token
from services.approval.imports.records import ImportToken
from services.approval.schemas import devices
from services.approval.schemas.operators import CreatedOperator
from tests.support.approval.paths import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN_ONLY = {"importPart", "openSession", "readBackup", "restorePart"}
KINDS = [kind for kind in vars(problems).values() if isinstance(kind, problems.Kind)]
DESCRIPTION: dict[str, Any] = describe(OPERATIONS, (*PAGES, METRICS))
CALLS: dict[str, dict[str, Any]] = {
    call["operationId"]: call
    for methods in DESCRIPTION["paths"].values()
    for call in methods.values()
}


def everywhere(value: Any) -> Iterator[Any]:
    """Return a value and everything nested in it."""
    yield value
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from everywhere(item)


def test_it_is_of_the_form_it_promises() -> None:
    msgspec.convert(DESCRIPTION, Description, strict=True)
    assert DESCRIPTION["openapi"].startswith("3.1.")


def test_ids_are_unique_and_complete() -> None:
    ids = [item.id for item in (*OPERATIONS, *PAGES, METRICS)]
    assert sorted(CALLS) == sorted(set(ids)) == sorted(ids)


def test_references_lead_somewhere_and_nothing_is_left_over() -> None:
    found = {item for item in everywhere(DESCRIPTION) if str(item).startswith("#/")}
    schemas = {f"#/components/schemas/{name}" for name in DESCRIPTION["components"]["schemas"]}
    assert found == schemas


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda case: case.id)
class TestOperation:
    def test_every_parameter_of_the_path_is_described(self, operation: Any) -> None:
        described = [
            parameter
            for parameter in CALLS[operation.id]["parameters"]
            if parameter["in"] == "path"
        ]
        assert [item["name"] for item in described] == re.findall(r"\{(\w+)\}", operation.path)
        for item in described:
            assert item["required"]
            assert item["schema"] == msgspec.json.schema(PARAMETERS[item["name"]])

    def test_every_problem_is_described_by_its_status(self, operation: Any) -> None:
        responses = CALLS[operation.id]["responses"]
        assert set(responses) == {"200", *(str(kind.status) for kind in operation.problems)}
        for kind in operation.problems:
            response = responses[str(kind.status)]
            assert f"`{kind.name}`" in response["description"]
            assert list(response["content"]) == ["application/problem+json"]

    def test_the_admin_token_or_a_session_is_wanted(self, operation: Any) -> None:
        opens: dict[str, Any] = (
            {"security": [{"adminToken": []}]} if operation.id in TOKEN_ONLY else {}
        )
        assert {k: v for k, v in CALLS[operation.id].items() if k == "security"} == opens
        assert DESCRIPTION["security"] == [{"adminToken": []}, {"session": []}]

    def test_a_body_where_something_is_changed(self, operation: Any) -> None:
        assert ("requestBody" in CALLS[operation.id]) == (operation.method != "GET")


def test_pages_require_no_token() -> None:
    for page in (*PAGES, METRICS):
        assert CALLS[page.id]["security"] == []


def test_patterns_and_bounds_are_as_promised() -> None:
    described = {
        item["name"]: item for call in CALLS.values() for item in call.get("parameters", ())
    }
    assert described["requestId"]["schema"]["pattern"] == "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
    assert described["deviceId"]["schema"]["pattern"] == "^[0-9a-f]{64}$"
    assert described["role"]["schema"]["enum"] == ["node", "operator"]
    limit = described["limit"]["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 1000, 100)
    assert set(AuditQuery.__struct_fields__) <= described.keys()


def test_without_an_ops_port_of_its_own_metrics_are_described() -> None:
    assert "/metrics" in DESCRIPTION["paths"]
    assert "/metrics" not in describe(OPERATIONS, PAGES)["paths"]


def test_no_field_of_an_answer_holds_a_token() -> None:
    """A role's token is described only by scopes and times."""
    shown = set(devices.DeviceToken.__struct_fields__)
    hidden = {"token_id", "token_generation", "imported", "exchanged_by"}
    stored = set(Token.__struct_fields__) - hidden
    assert shown - {"role", "last_used_at_ms"} == stored
    for name, schema in DESCRIPTION["components"]["schemas"].items():
        if name == BackupToken.__name__:  # a backup alone has the ids that tokens are derived from
            continue
        if name == ImportToken.__name__:  # no answer: what an import sends
            continue
        if name == CreatedOperator.__name__:  # shows an operator's token, this once
            continue
        fields = set(schema.get("properties", ()))
        assert fields.isdisjoint({"token", "deviceToken", "tokenId"}), name


def test_tests_have_a_sample_of_every_path_parameter() -> None:
    assert SAMPLES.keys() == PARAMETERS.keys()


class TestProblems:
    def test_names_are_unique(self) -> None:
        assert len({kind.name for kind in KINDS}) == len(KINDS)

    def test_every_kind_can_happen_somewhere(self) -> None:
        described = {kind for operation in OPERATIONS for kind in operation.problems}
        anywhere = {problems.NOT_FOUND, problems.METHOD, problems.NOT_ALLOWED, problems.BUSY}
        assert described | anywhere == set(KINDS)

    def test_every_error_of_the_registry_has_its_words(self) -> None:
        declared = {
            var
            for var in vars(errors).values()
            if isinstance(var, type) and issubclass(var, errors.RegistryError)
        }
        assert declared - {errors.RegistryError, errors.RequestOver} == set(problems._WRONG)

    def test_every_end_of_a_request_has_its_words(self) -> None:
        ends = {getattr(records, name) for name in ("APPROVED", "REJECTED", "SUPERSEDED")}
        assert ends | {records.EXPIRED, records.DISPLACED} == set(problems._ENDED)
