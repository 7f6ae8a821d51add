from __future__ import annotations

import asyncio
import gzip
import os
from typing import TYPE_CHECKING

import pytest

from services.gateway.dashboard import files as dashboard_files
from services.gateway.dashboard.compression import COMPRESSED_MIN_BYTES, Compressed
from services.gateway.dashboard.files import ChangedSinceStartError, list_files, read_piece
from shared.settings.environment import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"0123456789" * COMPRESSED_MIN_BYTES


@pytest.fixture
def ui(tmp_path: Path) -> Path:
    ui = tmp_path / "ui"
    (ui / "assets").mkdir(parents=True)
    (ui / "index.html").write_bytes(b"<html></html>")
    (ui / "assets" / "a.js").write_bytes(TEXT)
    return ui


class TestListing:
    def test_plain_files_are_listed_wherever_they_lie(self, ui: Path) -> None:
        assert set(list_files(ui)) == {"/index.html", "/assets/a.js"}

    def test_a_directory_behind_a_link_is_as_good(self, ui: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(ui)
        assert set(list_files(tmp_path / "link")) == {"/index.html", "/assets/a.js"}

    def test_links_pipes_and_hidden_ones_are_passed_over(self, ui: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "key").write_bytes(b"secret")
        (ui / "file.txt").symlink_to(tmp_path / "secret" / "key")
        (ui / "inside.js").symlink_to(ui / "assets" / "a.js")
        (ui / "folder").symlink_to(tmp_path / "secret")
        (ui / "loop").symlink_to(ui)
        (ui / "dead").symlink_to(ui / "nowhere")
        (ui / "assets" / "a.js.br").symlink_to(tmp_path / "secret" / "key")
        (ui / ".env").write_bytes(b"secret")
        (ui / ".git").mkdir()
        (ui / ".git" / "config").write_bytes(b"secret")
        os.mkfifo(ui / "pipe")
        listed = list_files(ui)
        assert set(listed) == {"/index.html", "/assets/a.js"}
        assert listed["/assets/a.js"].coded == {}

    def test_compressed_forms_belong_to_their_file(self, ui: Path) -> None:
        (ui / "assets" / "a.js.br").write_bytes(b"br")
        (ui / "assets" / "a.js.gz").write_bytes(b"gz")
        (ui / "assets" / "alone.tar.gz").write_bytes(b"its own")
        listed = list_files(ui)
        assert set(listed) == {"/index.html", "/assets/a.js", "/assets/alone.tar.gz"}
        assert {c: s.name.name for c, s in listed["/assets/a.js"].coded.items()} == {
            "br": "a.js.br",
            "gzip": "a.js.gz",
        }

    def test_what_is_in_a_file_makes_its_digest(self, ui: Path) -> None:
        (ui / "b.js").write_bytes(TEXT)
        listed = list_files(ui)
        assert listed["/b.js"].digest == listed["/assets/a.js"].digest
        assert listed["/b.js"].digest != listed["/index.html"].digest

    def test_too_many_files_are_not_the_dashboards(
        self, ui: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dashboard_files, "FILES_LIMIT", 1)
        with pytest.raises(SettingsError, match=r"CONTROL_UI_DIR=.* more than 1 files"):
            list_files(ui)

    def test_one_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"CONTROL_UI_DIR: .*gone cannot be read"):
            list_files(tmp_path / "gone")


class TestReading:
    def test_files_are_read_by_pieces(self, ui: Path) -> None:
        stored = list_files(ui)["/assets/a.js"].plain
        assert stored.size == len(TEXT)
        assert read_piece(stored, 3, 5) == b"34567"
        assert read_piece(stored, stored.size - 2, 5) == b"89"
        assert read_piece(stored, stored.size, 5) == b""

    def test_one_that_was_changed_replaced_or_removed_is_not_read(
        self, ui: Path, tmp_path: Path
    ) -> None:
        file = ui / "assets" / "a.js"
        stored = list_files(ui)["/assets/a.js"].plain
        other = tmp_path / "other"
        other.write_bytes(TEXT)
        file.unlink()
        with pytest.raises(ChangedSinceStartError):
            read_piece(stored, 0, 1)
        file.symlink_to(other)
        with pytest.raises(ChangedSinceStartError):
            read_piece(stored, 0, 1)
        file.unlink()
        other.rename(file)
        with pytest.raises(ChangedSinceStartError):
            read_piece(stored, 0, 1)
        stored = list_files(ui)["/assets/a.js"].plain
        file.write_bytes(TEXT + b"more")
        with pytest.raises(ChangedSinceStartError):
            read_piece(stored, 0, 1)

    def test_a_folder_that_became_a_link_leads_nowhere(self, ui: Path, tmp_path: Path) -> None:
        stored = list_files(ui)["/assets/a.js"].plain
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "a.js").write_bytes(TEXT)
        (ui / "assets").rename(tmp_path / "before")
        (ui / "assets").symlink_to(elsewhere)
        with pytest.raises(ChangedSinceStartError):
            read_piece(stored, 0, 1)


class TestCompressing:
    async def test_a_file_is_compressed_once_for_all_callers(self, ui: Path) -> None:
        stored = list_files(ui)["/assets/a.js"].plain
        compressed = Compressed()
        first, *others = await asyncio.gather(
            *(compressed.gzip_of("/assets/a.js", stored) for _ in range(5))
        )
        assert first is not None
        assert gzip.decompress(first) == TEXT
        assert all(other is first for other in others)

    async def test_not_what_is_small_or_dense(self, ui: Path) -> None:
        (ui / "a.png").write_bytes(TEXT)
        (ui / "noise.js").write_bytes(os.urandom(2 * COMPRESSED_MIN_BYTES))
        compressed = Compressed()
        for path, entry in list_files(ui).items():
            if path != "/assets/a.js":
                assert await compressed.gzip_of(path, entry.plain) is None

    async def test_what_exceeds_the_capacity_is_sent_uncompressed(self, ui: Path) -> None:
        (ui / "b.js").write_bytes(TEXT)
        files = list_files(ui)
        compressed = Compressed(limit_bytes=len(gzip.compress(TEXT)) + 1)
        assert await compressed.gzip_of("/b.js", files["/b.js"].plain) is not None
        assert await compressed.gzip_of("/assets/a.js", files["/assets/a.js"].plain) is None

    async def test_a_file_that_changed_is_not_kept(self, ui: Path) -> None:
        stored = list_files(ui)["/assets/a.js"].plain
        (ui / "assets" / "a.js").unlink()
        with pytest.raises(ChangedSinceStartError):
            await Compressed().gzip_of("/assets/a.js", stored)
