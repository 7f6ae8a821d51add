"""A stub model provider: OpenAI's chat completions, streamed word by word."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL: Final = "parrot-1"
PROVIDER: Final = "stub"
KEY: Final = "key-of-the-stub-provider"
WORD_SECONDS: Final = 0.03
"""Pause between words, so that an answer arrives in many pieces."""
HELD_SECONDS: Final = 90.0
"""Maximum time that a held answer waits."""


class ModelProvider:
    """Answers each chat with `answer`. While it is held, it stops before the last word."""

    def __init__(self) -> None:
        self.url = ""
        self.answer = "One word after the other, up to the last."
        self.prompts: Final[list[str]] = []
        """The newest message of each request."""
        self._go_on = asyncio.Event()
        self._go_on.set()

    def hold(self) -> None:
        """Stop each answer before its last word, until `go_on`."""
        self._go_on.clear()

    def go_on(self) -> None:
        """Send the last words of held answers."""
        self._go_on.set()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings for openclaw.json, apart from `gateway`."""
        model = {
            "id": MODEL,
            "name": "Parrot",
            "reasoning": False,
            "input": ["text"],
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            "contextWindow": 128_000,
            "maxTokens": 8_192,
        }
        own = {"baseUrl": self.url, "apiKey": KEY, "api": "openai-completions", "models": [model]}
        return {
            "models": {"mode": "replace", "providers": {PROVIDER: own}},
            "agents": {
                "defaults": {"model": {"primary": f"{PROVIDER}/{MODEL}"}, "skipBootstrap": True}
            },
        }

    @property
    def _tokens(self) -> int:
        return len(self.answer.split(" "))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Serve `POST /v1/chat/completions`."""
        asked = await request.json()
        self.prompts.append(_text_of(asked["messages"][-1]["content"]))
        if not asked.get("stream"):
            message = {"role": "assistant", "content": self.answer}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response(_frame("chat.completion", choice, self._tokens))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        *words, last = self.answer.split(" ")
        for word in words:
            await _send(response, {"content": f"{word} "})
            await asyncio.sleep(WORD_SECONDS)
        async with asyncio.timeout(HELD_SECONDS):
            await self._go_on.wait()
        await _send(response, {"content": last})
        await _send(response, {}, "stop", self._tokens)
        await response.write(b"data: [DONE]\n\n")
        return response


def _text_of(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content)


def _frame(kind: str, choice: dict[str, Any], tokens: int) -> dict[str, Any]:
    own: dict[str, Any] = {"id": "chat", "object": kind, "created": 1, "model": MODEL}
    if tokens:
        own["usage"] = {
            "prompt_tokens": 1,
            "completion_tokens": tokens,
            "total_tokens": tokens + 1,
        }
    return {**own, "choices": [choice]}


async def _send(
    response: web.StreamResponse,
    delta: dict[str, Any],
    finish: str | None = None,
    tokens: int = 0,
) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    frame = _frame("chat.completion.chunk", choice, tokens)
    await response.write(f"data: {json.dumps(frame)}\n\n".encode())


@asynccontextmanager
async def model_provider() -> AsyncIterator[ModelProvider]:
    """Serve a model provider on a free loopback port."""
    provider = ModelProvider()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", provider.complete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield provider
    finally:
        await runner.cleanup()
