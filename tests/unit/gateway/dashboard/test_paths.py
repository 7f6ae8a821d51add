"""How a request path of the dashboard is interpreted."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.gateway.dashboard.paths import (
    NOWHERE,
    PREFIX_LIMIT_SEGMENTS,
    Kind,
    Place,
    below,
    cache_control,
    compressible,
    content_type,
    place_of,
)

FILES = {
    "/index.html",
    "/sw.js",
    "/assets/app-DsEuFQRE.js",
    "/assets/plain.css",
    "/icons/LICENSE",
    "/icons/a b.svg",
    "/etc/passwd",
}
PAGE = Place(Kind.PAGE, "/index.html")


class TestPlaces:
    @pytest.mark.parametrize(
        "path",
        [
            *("/", "/index.html", "/chat", "/overview", "/live", "/settings/devices", "/chat/"),
            *("/chat/agent%3Amain", "/apiary", "/v1x", "/chat/caf%C3%A9", "/healthz/"),
        ],
    )
    def test_what_has_no_extension_is_the_page(self, path: str) -> None:
        assert place_of(path, FILES) == PAGE

    @pytest.mark.parametrize(
        ("path", "file"),
        [
            ("/sw.js", "/sw.js"),
            ("/assets/app-DsEuFQRE.js", "/assets/app-DsEuFQRE.js"),
            ("/assets/%61pp-DsEuFQRE.js", "/assets/app-DsEuFQRE.js"),
            ("/icons/LICENSE", "/icons/LICENSE"),
            ("/icons/a%20b.svg", "/icons/a b.svg"),
        ],
    )
    def test_a_file_is_a_file(self, path: str, file: str) -> None:
        assert place_of(path, FILES) == Place(Kind.FILE, file)

    @pytest.mark.parametrize(
        ("path", "file"),
        [
            ("/openclaw/assets/app-DsEuFQRE.js", "/assets/app-DsEuFQRE.js"),
            ("/openclaw/sw.js", "/sw.js"),
            ("/openclaw/settings/icons/a%20b.svg", "/icons/a b.svg"),
            ("/settings/assets/plain.css", "/assets/plain.css"),
            ("/a/b/c/d/e/f/g/h/sw.js", "/sw.js"),
        ],
    )
    def test_a_file_is_found_below_any_prefix_and_from_any_page(self, path: str, file: str) -> None:
        assert place_of(path, FILES) == Place(Kind.FILE, file)

    @pytest.mark.parametrize(
        "path",
        [
            "/api/sw.js",
            "/v1/sw.js",
            "/x" * PREFIX_LIMIT_SEGMENTS + "/y/sw.js",
            "/x/app-DsEuFQRE.js",
        ],
    )
    def test_other_paths_that_end_like_a_file_are_nothing(self, path: str) -> None:
        assert place_of(path, FILES) == NOWHERE

    @pytest.mark.parametrize(
        ("path", "prefix", "expected"),
        [
            ("/openclaw/chat", "/openclaw", "/chat"),
            ("/openclaw/", "/openclaw", "/"),
            ("/openclaw", "/openclaw", "/openclaw"),
            ("/openclawx/chat", "/openclaw", "/openclawx/chat"),
            ("/chat", "/openclaw", "/chat"),
            ("/chat", "", "/chat"),
        ],
    )
    def test_a_configured_prefix_is_left_out_where_it_is(
        self, path: str, prefix: str, expected: str
    ) -> None:
        assert below(path, prefix) == expected

    @pytest.mark.parametrize(
        "path",
        [
            *("/assets", "/assets/", "/assets/gone.js", "/assets/gone", "/gone.png", "/a/b.c/d.e"),
            *(
                "/api",
                "/api/x",
                "/v1",
                "/v1/devices",
                "/metrics",
                "/metrics/x",
                "/SW.js",
                "/sw.js/",
            ),
            *("", "*", "sw.js", "http://other/sw.js"),
        ],
    )
    def test_other_paths_lead_to_nothing(self, path: str) -> None:
        assert place_of(path, FILES) == NOWHERE

    @pytest.mark.parametrize(
        "path",
        [
            *("/../etc/passwd", "/./etc/passwd", "/etc/./passwd", "/x/../etc/passwd", "/.."),
            *("/%2e%2e/etc/passwd", "/%2E/etc/passwd", "/.%2e/", "/chat/..", "/chat/%2e%2e"),
            *("/assets/..%2f..%2fetc/passwd", "/etc%2fpasswd", "/etc%5cpasswd", "/etc\\passwd"),
            *("//etc/passwd", "/etc//passwd", "//", "/chat//", "/%2fetc/passwd"),
            *("/etc/passwd%00", "/etc/passwd%00.js", "/%00", "/chat%0a", "/chat%7f", "/chat\n"),
            *("/%252e%252e/etc/passwd.js", "/etc%252fpasswd.js", "/%ff", "/%c0%ae%c0%ae/"),
            *("/.env", "/.git/config", "/chat/.hidden", "/%2eenv"),
        ],
    )
    def test_a_path_that_climbs_hides_or_doubles_is_nothing(self, path: str) -> None:
        assert place_of(path, FILES) == NOWHERE

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/control-ui-config.json", Kind.CONFIG),
            ("/__openclaw__/control-ui-config.json", Kind.CONFIG),
            ("/any/prefix/control-ui-config.json", Kind.CONFIG),
            ("/__openclaw/control-ui-config.json", Kind.OPEN_CONFIG),
            ("/openclaw/__openclaw/control-ui-config.json", Kind.OPEN_CONFIG),
            ("/__openclaw/x/control-ui-config.json", Kind.CONFIG),
            ("/my-control-ui-config.json", Kind.NOTHING),
            ("/avatar/main", Kind.AVATAR),
        ],
    )
    def test_paths_lead_to_their_documents(self, path: str, kind: Kind) -> None:
        assert place_of(path, FILES).kind is kind

    @given(st.text(st.characters(codec="ascii"), max_size=40).map(lambda text: f"/{text}"))
    @example("/%")
    @example("/%zz")
    def test_it_names_the_page_or_a_file_that_is_there(self, path: str) -> None:
        place = place_of(path, FILES)
        if place.kind is Kind.FILE:
            assert place.path in FILES
        else:
            assert place.path == ("/index.html" if place.kind is Kind.PAGE else "")


class TestFiles:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/a.js", "text/javascript; charset=utf-8"),
            ("/a.css", "text/css; charset=utf-8"),
            ("/a.JSON", "application/json"),
            ("/a.js.map", "application/json"),
            ("/a.svg", "image/svg+xml"),
            ("/manifest.webmanifest", "application/manifest+json"),
            ("/a.wasm", "application/wasm"),
            ("/a.woff2", "font/woff2"),
            ("/a.png", "image/png"),
            ("/a.ico", "image/x-icon"),
            ("/a.txt", "text/plain; charset=utf-8"),
            ("/LICENSE", "application/octet-stream"),
            ("/a.exe", "application/octet-stream"),
            ("/a.js/b", "application/octet-stream"),
        ],
    )
    def test_files_have_their_content_types(self, path: str, expected: str) -> None:
        assert content_type(path) == expected

    def test_pictures_and_fonts_are_not_compressed_again(self) -> None:
        assert compressible("/a.js")
        assert compressible("/a.svg")
        assert not any(compressible(f"/a.{kind}") for kind in ("png", "webp", "woff2", "zip"))

    @pytest.mark.parametrize(
        "path",
        [
            "/assets/app-DsEuFQRE.js",
            "/assets/app-DsEuFQRE.js.map",
            "/assets/mermaid.min-BZuf2r7K.js",
            "/assets/de-DU-XmSEb.js",
            "/assets/sub/x-a_b-cdef.css",
        ],
    )
    def test_a_name_with_a_hash_is_kept_for_ever(self, path: str) -> None:
        assert cache_control(path) == "public, max-age=31536000, immutable"

    @pytest.mark.parametrize(
        "path",
        [
            *("/sw.js", "/favicon.svg", "/manifest.webmanifest", "/assets/plain.js"),
            *("/themes/app-DsEuFQRE.css", "/assets/app-short.js"),
        ],
    )
    def test_any_other_is_asked_for_again(self, path: str) -> None:
        assert cache_control(path) == "no-cache"
