"""CPU time of one turn of an agent: `aimlasync.agents` beside the same loop by hand, openai-agents and pydantic-ai.

    python benchmarks/agent_loops.py [--endpoint chat] [--turns 8] [--runs 200] [--rounds 5] [--in-flight 16]

A run is TURNS times a model call and the call of one tool, then the model's answer. Method: that of `calls.py`; the CPU
time of a run is divided by its model calls. Every answer is checked, and that the tool was called with what the model
said. Tracing of the frameworks is off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import agents as openai_agents
import msgspec
import pydantic_ai
from answers import TEXT
from measure import MODEL, Once, spend
from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from aimlasync import AsyncClient, Limits, agents

ASK = "Add them up."
TOOL = {
    "name": "add",
    "description": "The sum of two numbers.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}


class Numbers(msgspec.Struct):
    a: int
    b: int


class Added:
    """What the tool was called with."""

    def __init__(self) -> None:
        self.total = 0

    async def add(self, a: int, b: int) -> int:
        """The sum of two numbers."""
        self.total += a * b
        return a + b


def loops(base: str, added: Added, options: argparse.Namespace, stack: list[Any]) -> dict[str, Callable[[], Any]]:
    """Return what does one run and returns the answer, by the name of its client."""
    turns, chat = options.turns, options.endpoint == "chat"
    ours = AsyncClient(api_key="bench", base_url=base, limits=Limits(concurrency=1024))
    openai = AsyncOpenAI(api_key="bench", base_url=base, max_retries=0)
    stack += [ours, openai]

    async def chat_by_hand(client: Any, decode: Callable[[str], Any], dump: Callable[[Any], Any]) -> Any:
        messages: list[Any] = [{"role": "user", "content": ASK}]
        tools = [{"type": "function", "function": TOOL}]
        while True:
            reply = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
            message = reply.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.append(dump(message))
            for call in message.tool_calls:
                result = await added.add(**decode(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})

    async def responses_by_hand(client: Any, decode: Callable[[str], Any], dump: Callable[[Any], Any]) -> Any:
        items: list[Any] = [{"role": "user", "content": ASK}]
        tools = [{"type": "function", **TOOL}]
        while True:
            reply = await client.responses.create(model=MODEL, input=items, tools=tools)
            calls = [item for item in reply.output if item.type == "function_call"]
            if not calls:
                return reply.output_text
            items += map(dump, reply.output)
            for call in calls:
                result = await added.add(**decode(call.arguments))
                items.append({"type": "function_call_output", "call_id": call.call_id, "output": str(result)})

    by_hand = chat_by_hand if chat else responses_by_hand
    numbers = msgspec.json.Decoder(Numbers)

    async def with_ours() -> Any:
        return await by_hand(ours, lambda text: msgspec.structs.asdict(numbers.decode(text)), lambda said: said)

    async def with_openai() -> Any:
        return await by_hand(openai, json.loads, lambda said: said)

    async def with_agents() -> Any:
        run = await agents.run(
            ours, model=MODEL, input=ASK, tools=[added.add], endpoint=options.endpoint, max_turns=turns + 1
        )
        return run.output

    small = agents.Agent(model=MODEL, tools=[added.add], endpoint=options.endpoint, max_turns=turns + 1)

    async def with_agent() -> Any:
        return (await agents.run(ours, small, input=ASK)).output

    openai_agents.set_tracing_disabled(True)
    model: Any = openai_agents.OpenAIChatCompletionsModel if chat else openai_agents.OpenAIResponsesModel
    theirs = openai_agents.Agent(
        name="adder",
        model=model(model=MODEL, openai_client=openai),
        tools=[openai_agents.function_tool(added.add)],
    )
    quiet = openai_agents.RunConfig(tracing_disabled=True)

    async def with_openai_agents() -> Any:
        return (await openai_agents.Runner.run(theirs, ASK, max_turns=turns + 1, run_config=quiet)).final_output

    kind: Any = OpenAIChatModel if chat else OpenAIResponsesModel
    pydantic = pydantic_ai.Agent(kind(MODEL, provider=OpenAIProvider(openai_client=openai)), tools=[added.add])

    async def with_pydantic_ai() -> Any:
        return (await pydantic.run(ASK)).output

    return {
        "the client by hand": with_ours,
        "aimlasync.agents": with_agent,
        "… tools given anew": with_agents,
        "AsyncOpenAI by hand": with_openai,
        "openai-agents": with_openai_agents,
        "pydantic-ai": with_pydantic_ai,
    }


async def measure(options: argparse.Namespace, base: str) -> None:
    added = Added()
    # The sum of a * b over the calls that the server's script makes.
    expected = sum(range(options.turns))

    def checked(once: Callable[[], Any]) -> Once:
        async def do() -> None:
            answer = await once()
            assert answer == TEXT, answer

        return do

    opened: list[Any] = []
    async with AsyncExitStack() as stack:
        clients = {name: checked(once) for name, once in loops(base, added, options, opened).items()}
        for one in opened:
            await stack.enter_async_context(one)
        spent: dict[str, list[float]] = {name: [] for name in clients}
        for number in range(options.rounds + 1):
            for name, once in clients.items():
                runs = max(1, options.runs // (1 if name in ("the client by hand", "aimlasync.agents") else 5))
                added.total = 0
                taken = await spend(once, runs, options.in_flight)
                assert not taken.errors, taken.said
                assert added.total == expected * runs, f"{name}: the tool was not called as it should"
                if number:
                    # The first round warms connections, codecs and caches.
                    spent[name].append(taken.cpu / runs / (options.turns + 1))
    print(
        f"Python {sys.version.split()[0]}, {options.endpoint}, {options.turns} calls of a tool in a run, "
        f"{options.in_flight} runs in flight, {options.rounds} rounds"
    )
    hand, ours = (statistics.median(spent[name]) for name in ("the client by hand", "aimlasync.agents"))
    print(f"{'loop':<22}{'median us CPU':>16}{'lowest':>10}{'x by hand':>12}{'x aimlasync.agents':>20}")
    for name, values in spent.items():
        middle = statistics.median(values)
        lowest = min(values)
        print(f"{name:<22}{middle * 1e6:>16.1f}{lowest * 1e6:>10.1f}{middle / hand:>12.2f}{middle / ours:>20.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of one turn of an agent")
    parser.add_argument("--endpoint", choices=["chat", "responses"], default="chat")
    parser.add_argument("--turns", type=int, default=8, help="calls of the tool in a run")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=16)
    options = parser.parse_args()
    bytes(8 << 20)
    command = [sys.executable, str(Path(__file__).with_name("agent_server.py")), str(options.turns)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            asyncio.run(measure(options, f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
