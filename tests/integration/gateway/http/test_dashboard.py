"""The dashboard on the gateway's own address, served by a real gateway process."""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.integration.gateway.process import GATEWAY_TOKEN, gateway_process
from tests.support.http.plain_http import Reply, ask
from tests.support.websocket.raw_socket import RawSocket
from tools.support.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.support.processes.redis import RedisServer
    from tools.support.processes.service import ServiceProcess

SECRET: Final = b"root:x:0:0: what nobody may read"
SCRIPT: Final = b"export const answer = 42;\n" * 100
LARGE: Final = bytes(range(256)) * 4096
INDEX: Final = b"""<!doctype html>
<html><head><script>inline()</script>
<script type="module" src="./assets/app-DsEuFQRE.js"></script>
</head><body></body></html>
"""
CONFIG: Final = "/control-ui-config.json"
BEARER: Final = {"Authorization": f"Bearer {GATEWAY_TOKEN}"}
SECURITY: Final = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "vary": "Accept-Encoding",
}


class Served(NamedTuple):
    """A gateway with a dashboard in `ui`."""

    gateway: ServiceProcess
    ui: Path

    async def get(self, target: str, **headers: str) -> Reply:
        """Send a GET; `Accept_Encoding` is sent as the header of that name."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask(self.gateway.port, target, headers=named)


def make_ui(ui: Path) -> None:
    """Write a small dashboard, including files that must not be served."""
    (ui / "assets").mkdir(parents=True)
    (ui / "index.html").write_bytes(INDEX)
    (ui / "sw.js").write_bytes(b"self")
    (ui / "favicon.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    (ui / "manifest.webmanifest").write_bytes(b"{}")
    (ui / "assets" / "app-DsEuFQRE.js").write_bytes(SCRIPT)
    (ui / "assets" / "late-AAAAAAAA.js").write_bytes(SCRIPT)
    (ui / "assets" / "coded-BBBBBBBB.css").write_bytes(b"plain" * 500)
    (ui / "assets" / "coded-BBBBBBBB.css.br").write_bytes(b"as brotli")
    (ui / "assets" / "coded-BBBBBBBB.css.gz").write_bytes(gzip.compress(b"plain" * 500))
    (ui / "assets" / "large-CCCCCCCC.png").write_bytes(LARGE)
    (ui / ".env").write_bytes(SECRET)
    outside = ui.parent / "outside"
    outside.mkdir()
    (outside / "passwd.txt").write_bytes(SECRET)
    (ui / "linked.txt").symlink_to(outside / "passwd.txt")
    (ui / "linked").symlink_to(outside)
    (ui / "assets" / "app-DsEuFQRE.js.br").symlink_to(outside / "passwd.txt")


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, redis_process: RedisServer
) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("dashboard")
    ui = directory / "ui"
    make_ui(ui)
    with gateway_process(directory, redis_process, CONTROL_UI_DIR=str(ui)) as gateway:
        wait_until(lambda: gateway.ready_answer() is not None, "it serves")
        yield Served(gateway, ui)


class TestPage:
    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/index.html",
            "/chat",
            "/overview",
            "/live",
            "/settings/devices",
            "/?a=b",
            "/chat#x",
        ],
    )
    async def test_every_path_without_an_extension_is_the_page(
        self, served: Served, path: str
    ) -> None:
        reply = await served.get(path)
        assert reply.status == 200
        ours = re.search(rb"<script data-depth=.*?</script>", reply.body, re.DOTALL)
        assert ours is not None
        assert reply.body.replace(ours[0], b"") == INDEX
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers.items() >= SECURITY.items()

    async def test_its_policy_names_its_own_scripts(self, served: Served) -> None:
        policy = (await served.get("/")).headers["content-security-policy"]
        assert re.search(r"script-src 'self' 'sha256-[^' ]{44}' 'sha256-[^' ]{44}';", policy)
        assert "frame-ancestors 'none'" in policy

    async def test_compressed_it_is_the_same(self, served: Served) -> None:
        plain = await served.get("/chat")
        coded = await served.get("/chat", Accept_Encoding="gzip, br")
        assert coded.headers["content-encoding"] == "gzip"
        assert gzip.decompress(coded.body) == plain.body
        assert coded.headers["etag"] != plain.headers["etag"]


class TestFiles:
    @pytest.mark.parametrize(
        ("path", "kind", "cache"),
        [
            ("/sw.js", "text/javascript; charset=utf-8", "no-cache"),
            ("/favicon.svg", "image/svg+xml", "no-cache"),
            ("/manifest.webmanifest", "application/manifest+json", "no-cache"),
            (
                "/assets/app-DsEuFQRE.js",
                "text/javascript; charset=utf-8",
                "public, max-age=31536000, immutable",
            ),
        ],
    )
    async def test_files_are_served_as_they_are(
        self, served: Served, path: str, kind: str, cache: str
    ) -> None:
        reply = await served.get(path)
        assert (reply.status, reply.body) == (200, (served.ui / path[1:]).read_bytes())
        assert reply.headers["content-type"] == kind
        assert reply.headers["cache-control"] == cache
        assert reply.headers.items() >= SECURITY.items()
        assert "content-encoding" not in reply.headers

    async def test_precompressed_forms_are_sent_to_clients_that_accept_them(
        self, served: Served
    ) -> None:
        path = "/assets/coded-BBBBBBBB.css"
        brotli = await served.get(path, Accept_Encoding="gzip, deflate, br")
        assert (brotli.headers["content-encoding"], brotli.body) == ("br", b"as brotli")
        zipped = await served.get(path, Accept_Encoding="gzip")
        assert zipped.headers["content-encoding"] == "gzip"
        assert gzip.decompress(zipped.body) == b"plain" * 500
        plain = await served.get(path, Accept_Encoding="br;q=0")
        assert ("content-encoding" in plain.headers, plain.body) == (False, b"plain" * 500)
        replies = (brotli, zipped, plain)
        assert len({reply.headers["etag"] for reply in replies}) == 3
        assert {reply.headers["content-type"] for reply in replies} == {"text/css; charset=utf-8"}
        for suffix in (".br", ".gz"):
            assert (await served.get(path + suffix)).status == 404

    async def test_the_others_are_compressed_here(self, served: Served) -> None:
        for _ in range(2):
            reply = await served.get("/assets/app-DsEuFQRE.js", Accept_Encoding="br, gzip")
            assert reply.headers["content-encoding"] == "gzip"
            assert gzip.decompress(reply.body) == SCRIPT
            assert len(reply.body) == int(reply.headers["content-length"]) < len(SCRIPT)

    async def test_a_large_one_comes_whole(self, served: Served) -> None:
        reply = await served.get("/assets/large-CCCCCCCC.png", Accept_Encoding="br, gzip")
        assert reply.headers["content-type"] == "image/png"
        assert reply.body == LARGE

    @pytest.mark.parametrize("coding", ["", "gzip", "br"])
    @pytest.mark.parametrize("path", ["/", "/sw.js", "/assets/coded-BBBBBBBB.css"])
    async def test_a_client_that_has_the_file_gets_304(
        self, served: Served, path: str, coding: str
    ) -> None:
        first = await served.get(path, Accept_Encoding=coding)
        again = await served.get(
            path, Accept_Encoding=coding, If_None_Match=f'"x", W/{first.headers["etag"]}'
        )
        assert (again.status, again.body) == (304, b"")
        for name in ("etag", "cache-control", "vary", "content-security-policy"):
            assert again.headers[name] == first.headers[name]

    @pytest.mark.parametrize("path", ["/", "/chat", "/assets/large-CCCCCCCC.png", CONFIG])
    async def test_head_is_get_without_the_body(self, served: Served, path: str) -> None:
        port = served.gateway.port
        got = await ask(port, path, headers=BEARER)
        head = await ask(port, path, "HEAD", headers=BEARER)
        assert (head.status, head.body) == (200, b"")
        for name in ("content-length", "content-type"):
            assert head.headers[name] == got.headers[name]


class TestNothing:
    @pytest.mark.parametrize(
        "target",
        [
            *("/assets/gone.js", "/assets/gone", "/assets", "/gone.png", "/api", "/api/x", "/v1/x"),
            *(
                "/../outside/passwd.txt",
                "/%2e%2e/outside/passwd.txt",
                "/assets/../../outside/passwd.txt",
            ),
            *(
                "/assets/..%2f..%2foutside%2fpasswd.txt",
                "/..%5coutside%5cpasswd.txt",
                "/..\\outside",
            ),
            *("/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "//sw.js"),
            *("/sw.js%00", "/%00", "/sw.js%00.png", "/./sw.js", "/assets/./app-DsEuFQRE.js"),
            *(
                "/linked.txt",
                "/linked/passwd.txt",
                "/linked%2fpasswd.txt",
                "/assets/app-DsEuFQRE.js.br",
            ),
            *("/.env", "/%2eenv", "/sw.js/", "/sw.js/x.js", "/%252e%252e/outside.txt"),
        ],
    )
    async def test_no_path_leads_out(self, served: Served, target: str) -> None:
        for method in ("GET", "HEAD"):
            reply = await ask(served.gateway.port, target, method)
            assert reply.status == 404, reply
            assert reply.body == (b"Not Found" if method == "GET" else b"")
            assert reply.headers["content-type"].startswith("text/plain")

    async def test_a_whole_address_as_target_is_its_path(self, served: Served) -> None:
        port = served.gateway.port
        assert (await ask(port, f"http://127.0.0.1:{port}/../outside/passwd.txt")).status == 404

    async def test_what_came_after_the_start_is_not_there(self, served: Served) -> None:
        (served.ui / "new.js").write_bytes(SECRET)
        assert (await served.get("/new.js")).status == 404

    async def test_what_changed_since_the_start_is_not_there(self, served: Served) -> None:
        for _ in range(2):
            (served.ui / "assets" / "late-AAAAAAAA.js").unlink(missing_ok=True)
            (served.ui / "assets" / "late-AAAAAAAA.js").symlink_to(served.ui / ".env")
            assert (await served.get("/assets/late-AAAAAAAA.js")).status == 404

        def changed_files() -> list[str]:
            lines = served.gateway.logs()
            return [line["file"] for line in lines if line["event"] == "dashboard.changed"]

        await until(changed_files, "it is written")
        assert changed_files() == [str(served.ui / "assets" / "late-AAAAAAAA.js")]

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
    async def test_other_methods_are_not_found(self, served: Served, method: str) -> None:
        for target in ("/", "/chat", "/sw.js", CONFIG):
            assert (await ask(served.gateway.port, target, method)).status == 404


class TestTheGatewaysOwn:
    async def test_its_pages_stay(self, served: Served) -> None:
        for path in ("/livez", "/health", "/healthz"):
            assert (await served.get(path)).json == {"ok": True, "status": "live"}
        for path in ("/readyz", "/ready"):
            failing = (await served.get(path)).json["failing"]
            # Other tests stop the Redis that all tests of this worker share.
            assert [item for item in failing if item != "redis"] == ["approval", "lease"]
        assert b"latchkey_gateway_connections" in (await served.get("/metrics")).body
        assert (await ask(served.gateway.port, "/healthz", "POST")).status == 405

    @pytest.mark.parametrize("path", ["/", "/chat", "/sw.js", "/assets/gone.js", "/api/x"])
    async def test_a_socket_is_one_on_any_path(self, served: Served, path: str) -> None:
        async with await RawSocket.open(served.gateway.port, path=path) as raw:
            assert raw.status == 101
            await raw.challenge()


class TestConfiguration:
    @pytest.mark.parametrize("prefix", ["", "/__openclaw__", "/some/prefix"])
    async def test_protocol_4_brings_a_bearer(self, served: Served, prefix: str) -> None:
        refused = await served.get(prefix + CONFIG)
        assert refused.status == 401
        assert refused.json == {"error": {"message": "Unauthorized", "type": "unauthorized"}}
        for given in ("Basic YTpi", "Bearer", "Bearer "):
            assert (await served.get(prefix + CONFIG, Authorization=given)).status == 401
        for token in (GATEWAY_TOKEN, "a device's own"):
            reply = await served.get(prefix + CONFIG, Authorization=f"Bearer {token}")
            assert reply.status == 200
            assert reply.headers["cache-control"] == "no-store"
            assert reply.json["basePath"] == ""
            assert reply.json["terminalEnabled"] is False

    async def test_dashboards_of_protocol_3_have_a_path_of_their_own(self, served: Served) -> None:
        reply = await served.get("/__openclaw/control-ui-config.json")
        assert reply.status == 200
        assert reply.json["assistantAgentId"] == "main"

    async def test_nothing_in_it_is_secret(self, served: Served) -> None:
        reply = await ask(served.gateway.port, CONFIG, headers=BEARER)
        assert GATEWAY_TOKEN.encode() not in reply.body
        assert str(served.ui).encode() not in reply.body

    async def test_nobody_has_an_avatar(self, served: Served) -> None:
        assert (await served.get("/avatar/main?meta=1")).json == {"avatarUrl": None}
        assert (await served.get("/avatar/main")).status == 404


class TestWithout:
    async def test_the_page_says_how_to_bring_it(
        self, tmp_path: Path, redis_process: RedisServer
    ) -> None:
        with gateway_process(tmp_path, redis_process) as gateway:
            await asyncio.to_thread(
                wait_until, lambda: gateway.ready_answer() is not None, "it serves"
            )
            browser = await ask(gateway.port, "/", headers={"Accept": "text/html,*/*;q=0.8"})
            assert browser.headers["content-type"] == "text/html; charset=utf-8"
            assert browser.headers["content-security-policy"].startswith("default-src 'none'")
            assert b"<code>CONTROL_UI_DIR</code>" in browser.body
            curl = await ask(gateway.port, "/", headers={"Accept": "*/*"})
            assert curl.headers["content-type"] == "text/plain; charset=utf-8"
            assert b"CONTROL_UI_DIR" in curl.body
            for path in ("/chat", "/index.html", CONFIG, "/__openclaw/control-ui-config.json"):
                assert (await ask(gateway.port, path, headers=BEARER)).status == 404

    async def test_a_wrong_directory_is_one_clear_message(
        self, tmp_path: Path, redis_process: RedisServer
    ) -> None:
        with gateway_process(tmp_path, redis_process, CONTROL_UI_DIR=str(tmp_path)) as gateway:
            assert await gateway.until_ended() == 78
            assert f"CONTROL_UI_DIR={tmp_path}: contains no index.html" in gateway.log_text()
            assert "Traceback" not in gateway.log_text()

    async def test_the_index_may_not_be_a_link(
        self, tmp_path: Path, redis_process: RedisServer
    ) -> None:
        (tmp_path / "page").write_bytes(INDEX)
        (tmp_path / "ui").mkdir()
        (tmp_path / "ui" / "index.html").symlink_to(tmp_path / "page")
        ui = str(tmp_path / "ui")
        with gateway_process(tmp_path, redis_process, CONTROL_UI_DIR=ui) as gateway:
            assert await gateway.until_ended() == 78
            assert "index.html is not a regular file" in gateway.log_text()
            assert "Traceback" not in gateway.log_text()
