from __future__ import annotations

import pytest

from services.gateway.dashboard.negotiation import best_coding, is_held, wants_html


@pytest.mark.parametrize(
    ("header", "there", "best"),
    [
        ("", {"br", "gzip"}, None),
        ("gzip, deflate, br, zstd", {"br", "gzip"}, "br"),
        ("gzip, deflate, br, zstd", {"gzip"}, "gzip"),
        ("GZIP;q=0.5", {"br", "gzip"}, "gzip"),
        ("br;q=0, gzip", {"br", "gzip"}, "gzip"),
        ("br; q=0.0", {"br"}, None),
        ("*", {"gzip"}, "gzip"),
        ("*;q=0", {"gzip"}, None),
        ("identity", {"br", "gzip"}, None),
        ("br;q=nonsense", {"br"}, None),
        ("br;level=1;q=1", {"br"}, "br"),
        (", ,", {"br"}, None),
        ("gzip, br", set(), None),
    ],
)
def test_the_best_form_that_the_client_takes(
    header: str, there: set[str], best: str | None
) -> None:
    assert best_coding(header, there) == best


@pytest.mark.parametrize(
    ("header", "held"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ("", False),
        ('"b"', False),
        ('"a-br"', False),
        ("a", False),
    ],
)
def test_a_client_that_holds_the_file_gets_304(header: str, held: bool) -> None:  # noqa: FBT001
    assert is_held('"a"', header) is held


@pytest.mark.parametrize(
    ("header", "wants"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("TEXT/HTML", True),
        ("text/html;q=0", False),
        ("*/*", False),
        ("", False),
        ("text/plain", False),
    ],
)
def test_only_clients_that_accept_html_get_it(header: str, wants: bool) -> None:  # noqa: FBT001
    assert wants_html(header) is wants
