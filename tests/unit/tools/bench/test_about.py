"""What the benchmark says of the interpreter."""

from __future__ import annotations

import platform
from importlib.metadata import version

import pytest

from tools.bench.about import about, optimizations

USED = "-fprofile-use -fprofile-correction"
"""What configure puts into the settings of every build with GCC."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("'--enable-shared' 'LDFLAGS=-L/usr/lib -Wl,-z'", ("no", "no")),
        ("'--enable-optimizations' '--with-lto'", ("yes", "yes")),
        ("'--enable-optimizations=yes' '--with-lto=thin'", ("yes", "yes")),
        ("'--enable-optimizations' '--with-lto=no'", ("yes", "no")),
        ("'--with-lto=full' '--enable-optimizations=no'", ("no", "yes")),
    ],
)
def test_options_of_the_build_say_how_it_was_optimized(
    options: str, expected: tuple[str, str]
) -> None:
    assert optimizations({"CONFIG_ARGS": options, "PGO_PROF_USE_FLAG": USED}) == expected


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"CONFIG_ARGS": None, "PGO_PROF_USE_FLAG": USED},
        {"CONFIG_ARGS": "'--enable-shared'", "PGO_PROF_USE_FLAG": ""},
        {"CONFIG_ARGS": "'unbalanced", "PGO_PROF_USE_FLAG": USED},
    ],
)
def test_incomplete_settings_of_the_build_do_not_mean_no(config: dict[str, str | None]) -> None:
    assert optimizations(config) == ("unknown", "unknown")


def test_flags_of_the_compiler_count_also_without_options() -> None:
    config = {"PY_CORE_CFLAGS": "-O3 -fprofile-use", "PY_CORE_LDFLAGS": "-flto=auto"}
    assert optimizations(config) == ("yes", "yes")


def test_the_paragraph_names_interpreter_libraries_and_cores() -> None:
    text = about(0, {2, 1})
    assert text.startswith(f"CPython {platform.python_version()} (built with PGO: ")
    for name in ("uvloop", "aiohttp"):
        assert f"{name} {version(name)}" in text
    assert text.endswith("; servers on core 0, load on 1, 2.")
