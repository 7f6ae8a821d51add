from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from deploy.local.errors import SecretsFileBroken
from deploy.local.secrets_file import load_secrets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "secrets.env"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestFirstStart:
    def test_each_name_gets_a_long_value_of_its_own(self, path: Path) -> None:
        made = load_secrets(path, {}, ["A", "B"])
        assert made["A"] != made["B"]
        assert {len(value) for value in made.values()} == {64}

    def test_only_the_owner_may_read_it_whatever_the_umask(self, path: Path) -> None:
        before = os.umask(0)
        try:
            load_secrets(path, {}, ["A"])
        finally:
            os.umask(before)
        assert mode(path) == 0o600
        assert list(path.parent.iterdir()) == [path]

    def test_a_shell_can_read_it(self, path: Path) -> None:
        made = load_secrets(path, {}, ["A"])
        said = subprocess.run(
            ["/bin/sh", "-c", '. "$0"; printf %s "$A"', path],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        assert said == made["A"]


class TestLaterStarts:
    def test_a_later_start_keeps_the_values(self, path: Path) -> None:
        made = load_secrets(path, {}, ["A", "B"])
        text = path.read_text()
        assert load_secrets(path, {}, ["A", "B"]) == made
        assert path.read_text() == text

    def test_a_missing_name_is_added_and_the_rest_kept(self, path: Path) -> None:
        made = load_secrets(path, {}, ["A"])
        path.write_text(path.read_text().rstrip("\n"))
        later = load_secrets(path, {}, ["A", "B"])
        assert later["A"] == made["A"]
        assert load_secrets(path, {}, ["B", "A"]) == later
        assert mode(path) == 0o600

    def test_an_empty_value_is_generated_again(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_text("A=\n")
        made = load_secrets(path, {}, ["A"])
        assert len(made["A"]) == 64
        assert load_secrets(path, {}, ["A"]) == made

    def test_what_others_could_read_is_closed_to_them(self, path: Path) -> None:
        load_secrets(path, {}, ["A"])
        path.chmod(0o644)
        load_secrets(path, {}, ["A"])
        assert mode(path) == 0o600

    def test_comments_blank_lines_and_equals_signs_in_values(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_text("# a note\n\nA=with=equals,and,commas\n")
        assert load_secrets(path, {}, ["A"]) == {"A": "with=equals,and,commas"}

    @pytest.mark.parametrize("line", ["A", "export A=1", "=1"])
    def test_a_broken_line_is_named(self, path: Path, line: str) -> None:
        path.parent.mkdir()
        path.write_text(f"# a note\n{line}\n")
        with pytest.raises(SecretsFileBroken, match="line 2"):
            load_secrets(path, {}, ["A"])


class TestEnvironment:
    def test_it_wins_and_is_not_written(self, path: Path) -> None:
        stored = load_secrets(path, {}, ["A"])
        assert load_secrets(path, {"A": "given"}, ["A"]) == {"A": "given"}
        assert load_secrets(path, {}, ["A"]) == stored

    def test_nothing_is_written_when_all_is_given(self, path: Path) -> None:
        assert load_secrets(path, {"A": "given"}, ["A"]) == {"A": "given"}
        assert not path.exists()

    def test_empty_counts_as_not_given(self, path: Path) -> None:
        assert len(load_secrets(path, {"A": ""}, ["A"])["A"]) == 64
