"""Agents: a model that calls tools until it has an answer, over chat/completions or responses.

This package is a caller of the client and uses it through its public names:

    async def weather(city: str) -> str:
        "What the weather is like in a city."
        return "sunny"

    run = await agents.run(client, model=..., input="Shall I take an umbrella to Rome?", tools=[weather])
    print(run.output, run.usage.cost_usd)

The files, from the lowest to the highest; each imports only files above it in this list:

    run_state    the state of a run: history, pending tool calls, usage; can be saved and loaded
    context      what a tool can see of the run that calls it
    errors       the errors that end a run without an answer
    images       the images in a tool's result
    results      what a tool returned as text, and the text of an error
    events       the events of a streamed run
    signature    the parameters of a function: their JSON schema, and the decoder of their values
    tools        a Python function as a tool: name, timeout, concurrency, approval
    agent        a model with its instructions, tools, output type and bounds
    adapters     the history as a request, and a reply as a turn, for each endpoint
    usage        tokens, cost and budget of the model calls
    tool_calls   the execution of the tool calls of a turn: arguments, approval, result, repetition
    loop         the agent loop
    api          the functions `run` and `stream`
    web_events   the events of a run for a browser; imported when one is relayed
    many_runs    the function `map`
    mcp          tools of MCP servers (pip install 'aimlasync[mcp]'); no other file imports it
"""

from aimlasync.agents.agent import Agent, CallParams, Options
from aimlasync.agents.api import RunStream, run, stream
from aimlasync.agents.context import RunContext
from aimlasync.agents.errors import (
    AgentError,
    MaxToolCallsExceeded,
    MaxTurnsExceeded,
    RepeatedCallsError,
    RunTimeoutError,
    ToolError,
)
from aimlasync.agents.events import (
    ApprovalNeeded,
    Event,
    RunFinished,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from aimlasync.agents.images import Image
from aimlasync.agents.many_runs import Result, map
from aimlasync.agents.run_state import Run, ToolCall, Usage
from aimlasync.agents.tools import Tool, tool

__all__ = [
    "Agent",
    "AgentError",
    "ApprovalNeeded",
    "CallParams",
    "Event",
    "Image",
    "MaxToolCallsExceeded",
    "MaxTurnsExceeded",
    "Options",
    "RepeatedCallsError",
    "Result",
    "Run",
    "RunContext",
    "RunFinished",
    "RunStream",
    "RunTimeoutError",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolFinished",
    "ToolStarted",
    "TurnFinished",
    "Usage",
    "map",
    "run",
    "stream",
    "tool",
]
