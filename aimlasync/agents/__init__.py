"""Agents: a model that calls Python functions until it has an answer, over chat/completions or responses.

Law: a caller of the client, by its public names; `loop` is the whole of it, and the rest serves it::

    async def weather(city: str) -> str:
        "What the weather is like in a city."
        return "sunny"

    run = await agents.run(client, model=..., input="Shall I take an umbrella to Rome?", tools=[weather])
    print(run.output, run.usage.cost_usd)

    tool record events errors     a function as a tool; what was done; what is told; how it ends without an answer
    agent dialect answer account  what is asked; how each endpoint says it; what the last text means; what it takes
    loop run mapping              the loop; one of them; many of them
    mcp                           tools of MCP servers (pip install 'aimlasync[mcp]'), imported only by who uses it
"""

from aimlasync.agents.agent import Agent
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
from aimlasync.agents.mapping import Result, map
from aimlasync.agents.run_state import Run, ToolCall, Usage
from aimlasync.agents.runner import RunStream, run, stream
from aimlasync.agents.tools import RunContext, Tool, tool

__all__ = [
    "Agent",
    "AgentError",
    "ApprovalNeeded",
    "Event",
    "MaxToolCallsExceeded",
    "MaxTurnsExceeded",
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
