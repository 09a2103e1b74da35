"""A chat and an agent in the browser: answers appear as they are written, and who leaves or stops pays for no more.

The agent's page shows its tool calls, and asks the reader before a refund is made.

    pip install 'aimlasync[starlette]' fastapi uvicorn
    python examples/chat_app/app.py

With AIML_API_KEY or BYTESPIKE_API_KEY set this talks to the vendor, without a key to the simulator.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from aimlasync import AsyncClient, agents
from aimlasync.simulator import Answer, Call, Latency, SimRequest, stand_in

try:
    import uvicorn
    from fastapi import APIRouter, Cookie, Depends, FastAPI, HTTPException, Request, Response
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


class Ask(BaseModel):
    """A question, or the id of a run to go on with, or both; and decisions on the run's calls."""

    question: str | None = Field(None, min_length=1, max_length=100_000)
    run: str | None = None
    approvals: dict[str, bool] = {}


@routes.get("/")
@routes.get("/agent")
async def page(request: Request, chat_user: Annotated[str | None, Cookie()] = None) -> Response:
    nonce, name = secrets.token_urlsafe(16), "agent" if request.url.path == "/agent" else "chat"
    html = (HERE / "index.html").read_text(encoding="utf-8").replace("{nonce}", nonce).replace("{page}", name)
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


# --- the agent -----------------------------------------------------------------------------------------------------

ORDERS = {17: "two lamps, shipped on Monday, 84 euros", 18: "a kettle, waiting for payment, 39 euros"}


async def find_order(number: Annotated[int, "the order number"]) -> str:
    """Find what an order is, and how far it is."""
    if number not in ORDERS:
        raise agents.ToolError(f"there is no order {number}; there are {', '.join(map(str, ORDERS))}")
    return ORDERS[number]


def opening_hours(day: Literal["weekday", "Saturday", "Sunday"]) -> dict[str, str]:
    """Opening hours of the shop."""
    return {"day": day, "open": {"weekday": "8 to 18", "Saturday": "9 to 13", "Sunday": "closed"}[day]}


@agents.tool(approve=True)
async def refund(order: int, euros: float) -> str:
    """Refund an order. A person decides on each refund."""
    return f"{euros} euros of order {order} were refunded"


DESK = agents.Agent(
    model=MODEL,
    name="desk",
    instructions="You serve at a shop's desk. Look things up before you answer. Be brief.",
    tools=[find_order, opening_hours, refund],
    max_turns=12,
)

# Runs by user and id, the oldest first. An app of several processes keeps them in a database.
RUNS: dict[tuple[str, str], bytes] = {}
MAX_RUNS = 1000


@routes.post("/agent")
async def agent(
    asked: Ask,
    request: Request,
    client: Annotated[AsyncClient, Depends(client)],
    chat_user: Annotated[str | None, Cookie()] = None,
) -> Response:
    user = chat_user or "nobody"

    async def save(run: agents.Run) -> None:
        RUNS[user, run.id] = run.to_json()
        while len(RUNS) > MAX_RUNS:
            del RUNS[next(iter(RUNS))]

    history = None
    if asked.run is not None:
        saved = RUNS.get((user, asked.run))
        if saved is None:
            # Of another user, dropped, or under way in another tab.
            raise HTTPException(404, "this conversation is not here")
        history = agents.Run.from_json(saved)
        if asked.question is not None:
            history.abandon()
    try:
        running = agents.stream(
            client,
            DESK.but(model=request.app.state.model, tenant=user),
            input=asked.question,
            history=history,
            approvals=asked.approvals,
            save=save,
        )
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    if asked.run is not None:
        # What is answered twice is done once; `save` puts it back.
        del RUNS[user, asked.run]
    return event_stream(running)


def make_app(model: str = MODEL, **options: Any) -> FastAPI:
    """Return the app; `options` are its client's."""
    app = FastAPI(lifespan=lifespan(**{**BOUNDS, **options}), exception_handlers=exception_handlers)
    app.state.model = model
    app.include_router(routes)
    return app


def simulated(asked: SimRequest) -> Answer | str | None:
    """What the simulator says: something of all that the page can show; None leaves the words to the simulator."""
    if asked.body.get("tools"):
        return simulated_desk(asked)
    if "[tokens:" in asked.text or "[refuse]" in asked.text:
        return None
    quote = asked.text if len(asked.text) <= 80 else f"{asked.text[:80]}…"
    sample = (HERE / "simulated.md").read_text(encoding="utf-8")
    return sample.replace("{question}", quote).replace("{number}", str(asked.turn + 1))


def simulated_desk(asked: SimRequest) -> Answer:
    """What a model would do at the desk: look up what is asked for, refund when asked to, and tell the results."""
    results = [(one.call.name, json.loads(one.call.arguments), one.output) for one in asked.results]
    numbers = list(dict.fromkeys(map(int, re.findall(r"\d{1,6}", asked.text)))) or [17]
    done = [name for name, _, _ in results]
    if not done:
        calls = [Call.of("find_order", number=number) for number in numbers]
        calls += [Call.of("opening_hours", day=day) for day in ("Saturday", "Sunday") if day in asked.text]
        return Answer(text="Let me look that up.", calls=calls)
    if "refund" in asked.text.lower() and "refund" not in done:
        euros = [(given["number"], output.split()[-2]) for name, given, output in results if name == "find_order"]
        calls = [Call.of("refund", order=order, euros=float(price)) for order, price in euros if price.isdigit()]
        if calls:
            return Answer(text="I can refund that, once somebody agrees.", calls=calls)
    told = [f"- **{name}** says: {output}" for name, _, output in results]
    return Answer(text="\n".join(["This is what I found:", "", *told, "", "The **simulator** wrote this."]))


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat in the browser.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    port = parser.parse_args().port
    names = ("AIML_API_KEY", "AIMLAPI_API_KEY", "BYTESPIKE_API_KEY")
    keys = [name for name in names if os.environ.get(name, "").strip()]
    model = "gpt-5-nano" if keys == ["BYTESPIKE_API_KEY"] else MODEL
    options: dict[str, Any] = {"model": os.environ.get("MODEL", model)}
    with stand_in(latency=Latency.of(ttft=0.5, tokens_per_second=60), answer=simulated):
        uvicorn.run(make_app(**options), port=port, access_log=False, ws="none")


if __name__ == "__main__":
    main()
