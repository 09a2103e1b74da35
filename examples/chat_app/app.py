"""A chat in the browser: answers appear as they are written, and a reader who leaves or stops pays for no more.

    pip install 'aimlasync[starlette]' fastapi uvicorn
    python examples/chat_app/app.py

With AIML_API_KEY or BYTESPIKE_API_KEY set this talks to the vendor, without a key to the simulator.
"""

from __future__ import annotations

import argparse
import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from aimlasync import AsyncClient, Endpoint
from aimlasync.simulator import Latency, SimRequest, serve_in_thread

try:
    import uvicorn
    from fastapi import APIRouter, Cookie, Depends, FastAPI, Request, Response
    from fastapi.responses import HTMLResponse
    from pydantic import BaseModel, Field

    from aimlasync.starlette import client, event_stream, exception_handlers, lifespan
except ImportError as missing:
    raise SystemExit(f"{missing}; this example needs: pip install 'aimlasync[starlette]' fastapi uvicorn") from None

MODEL = "openai/gpt-5-nano-2025-08-07"
HERE = Path(__file__).parent

# What may wait: of all users, of one, and for how many seconds. Beyond that the page is told when to come back.
BOUNDS: dict[str, Any] = {"max_queue": 100, "max_queue_per_tenant": 4, "max_wait": 20.0}

# Only the page's own script and style run, and only this server is called.
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)

routes = APIRouter()


class Message(BaseModel):
    role: Literal["user", "assistant"]
    content: str = Field(min_length=1, max_length=100_000)


class Conversation(BaseModel):
    messages: list[Message] = Field(min_length=1, max_length=200)


@routes.get("/")
async def page(chat_user: Annotated[str | None, Cookie()] = None) -> Response:
    nonce = secrets.token_urlsafe(16)
    html = (HERE / "index.html").read_text(encoding="utf-8").replace("{nonce}", nonce)
    headers = {"Content-Security-Policy": POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
    response = HTMLResponse(html, headers=headers)
    if chat_user is None:
        response.set_cookie("chat_user", secrets.token_urlsafe(16), httponly=True, samesite="strict")
    return response


@routes.post("/chat")
async def chat(
    asked: Conversation,
    request: Request,
    client: Annotated[AsyncClient, Depends(client)],
    chat_user: Annotated[str | None, Cookie()] = None,
) -> Response:
    messages = [message.model_dump() for message in asked.messages]
    # A user is a tenant: those who wait take turns. Who sends no cookie shares a turn with all who do not.
    model, tenant = request.app.state.model, chat_user or "nobody"
    return event_stream(client.chat.completions.create(model=model, messages=messages, stream=True, tenant=tenant))


def make_app(model: str = MODEL, **options: Any) -> FastAPI:
    """Return the app; `options` are its client's."""
    app = FastAPI(lifespan=lifespan(**{**BOUNDS, **options}), exception_handlers=exception_handlers)
    app.state.model = model
    app.include_router(routes)
    return app


def simulated(asked: SimRequest) -> str | None:
    """What the simulator says: something of all that the page can show; None leaves the words to the simulator."""
    if "[tokens:" in asked.text or "[refuse]" in asked.text:
        return None
    quote = asked.text if len(asked.text) <= 80 else f"{asked.text[:80]}…"
    sample = (HERE / "simulated.md").read_text(encoding="utf-8")
    return sample.replace("{question}", quote).replace("{number}", str(asked.turn + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat in the browser.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    port = parser.parse_args().port
    names = ("AIML_API_KEY", "AIMLAPI_API_KEY", "BYTESPIKE_API_KEY")
    keys = [name for name in names if os.environ.get(name, "").strip()]
    model = "gpt-5-nano" if keys == ["BYTESPIKE_API_KEY"] else MODEL
    options: dict[str, Any] = {"model": os.environ.get("MODEL", model)}
    with ExitStack() as stack:
        if not keys:
            print("Neither AIML_API_KEY nor BYTESPIKE_API_KEY is set: the simulator answers.", flush=True)
            latency = Latency.of(ttft=0.5, tokens_per_second=60)
            simulator = stack.enter_context(serve_in_thread(latency=latency, answer=simulated))
            options["endpoints"] = [Endpoint.aimlapi(api_key="simulated", base_url=simulator.base_url)]
        uvicorn.run(make_app(**options), port=port, access_log=False, ws="none")


if __name__ == "__main__":
    main()
