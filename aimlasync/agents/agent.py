"""An agent: a model with its instructions, tools, output type and bounds; made once, run many times.

Plain data that is checked when the agent is made; the schemas of the tools and of the output are made here too. This
module may import `tools`, `context`, `run_state` and `errors`, and the package's `schema`; it runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from aimlasync.agents.context import RunContext
from aimlasync.agents.errors import ToolError
from aimlasync.agents.run_state import Endpoint, OutputT, Run
from aimlasync.agents.tools import Tool, tool, tool_of
from aimlasync.config import Priority, Structured, check_headers
from aimlasync.structured.schema import Format, format_of

T = TypeVar("T")


class CallParams(TypedDict, total=False):
    """Parameters of the model calls that a run makes; others go through `extra_body`."""

    temperature: float | None
    top_p: float | None
    max_completion_tokens: int | None
    max_tokens: int | None
    max_output_tokens: int | None
    reasoning_effort: str | None
    reasoning: Mapping[str, Any] | None
    verbosity: str | None
    text: Mapping[str, Any] | None
    seed: int | None
    stop: str | list[str] | None
    tool_choice: str | Mapping[str, Any] | None
    """"required" or a tool's name holds until a tool was called, so that the model can answer after that."""
    parallel_tool_calls: bool | None
    stream_options: Mapping[str, Any] | None
    store: bool | None
    """True on responses: the server stores the conversation, and only new items are sent."""
    include: list[str] | None
    """By default encrypted reasoning, where the model offers it; an empty list asks for nothing."""
    metadata: Mapping[str, str] | None
    truncation: str | None
    user: str | None
    service_tier: str | None
    prompt_cache_key: str | None
    safety_identifier: str | None
    extra_headers: Mapping[str, str] | None
    extra_body: Mapping[str, Any] | None
    structured: Structured | None
    """How to ask for an answer of the type `output`; by default in the surest way that the model has."""
    priority: Priority
    tenant: str | None
    """The tenant in the client's fair queue; by default the run's id, so that all runs take turns."""
    affinity: str | None
    """By default the run's id."""


class Parts(CallParams, total=False):
    """The parts of an agent but its output."""

    name: str
    model: str
    instructions: str | None
    tools: Iterable[Tool | Callable[..., Any]]
    endpoint: Endpoint
    max_turns: int
    """Model calls of one `run`, repairs included."""
    max_tool_calls: int | None
    """Tool calls of one `run`; None for any number."""
    max_repairs: int
    """How often the model is asked again after an answer that is not of the output type."""
    max_repeats: int | None
    """How many consecutive turns may make the same call with the same result before the model is told to stop."""


class Options(Parts, total=False):
    """The parts of an agent."""

    output: Any
    """The type of the answer; None for a text."""


_DEFAULTS: dict[str, Any] = {
    "name": "agent",
    "model": "",
    "instructions": None,
    "tools": (),
    "output": None,
    "endpoint": "chat",
    "max_turns": 10,
    "max_tool_calls": None,
    "max_repairs": 1,
    "max_repeats": 3,
}


class Agent(Generic[OutputT]):
    """A model with its instructions, tools and bounds, for `run`, `stream` and `map`, or as a tool of another agent.

    `Options` and `CallParams` say what the keywords mean. Raises TypeError for a tool or type that has no strict
    schema, ValueError for a missing model or two tools of one name.
    """

    @overload
    def __init__(self, *, output: type[OutputT], **options: Unpack[Parts]) -> None: ...
    @overload
    def __init__(self: Agent[str], *, output: None = None, **options: Unpack[Parts]) -> None: ...
    @overload
    def __init__(self: Agent[Any], *, output: Any, **options: Unpack[Parts]) -> None: ...

    def __init__(self, **options: Unpack[Options]) -> None:
        check_headers(options)
        given = {**_DEFAULTS, **options}
        self.name: str = given.pop("name")
        self.model: str = given.pop("model")
        self.instructions: str | None = given.pop("instructions")
        self.tools: dict[str, Tool] = {}
        for tool_or_function in given.pop("tools"):
            made = tool_of(tool_or_function)
            if made.name in self.tools:
                raise ValueError(f"{self.name}: two tools are called {made.name}")
            self.tools[made.name] = made
        self.output: Any = given.pop("output")
        self.output_format: Format[Any] | None = None if self.output is None else format_of(self.output)
        self.endpoint: Endpoint = given.pop("endpoint")
        self.max_turns: int = given.pop("max_turns")
        self.max_tool_calls: int | None = given.pop("max_tool_calls")
        self.max_repairs: int = given.pop("max_repairs")
        self.max_repeats: int | None = given.pop("max_repeats")
        self.params: dict[str, Any] = given
        if not self.model:
            raise ValueError(f"{self.name}: model= is missing")

    @overload
    def but(self, *, output: type[T], **options: Unpack[Parts]) -> Agent[T]: ...
    @overload
    def but(self, **options: Unpack[Parts]) -> Agent[OutputT]: ...
    @overload
    def but(self, *, output: Any, **options: Unpack[Parts]) -> Agent[Any]: ...

    def but(self, **options: Unpack[Options]) -> Agent[Any]:
        """Return this agent with other options."""
        if not options:
            return self
        check_headers(options)
        own: dict[str, Any] = {name: getattr(self, name) for name in _DEFAULTS}
        own["tools"] = self.tools.values()
        return Agent(**{**own, **self.params, **options})

    def as_tool(self, *, name: str | None = None, description: str) -> Tool:
        """Return a tool that gives this agent a task and returns its answer.

        The sub-agent runs with the caller's client, context, budget and approvals; its usage counts as the caller's.
        When it fails, the caller's model gets the error as the tool's result.
        """

        async def ask(context: RunContext[Any], task: str) -> Any:
            run = Run(model=self.model, endpoint=self.endpoint)
            try:
                await context._runner.delegate(self, run, task)
            finally:
                context.run.usage.add(run.usage)
            if run.status == "waiting":
                waiting = ", ".join(call.name for call in run.waiting)
                raise ToolError(f"it needs an approval that nobody can give here: {waiting}")
            return run.output

        return tool(ask, name=name or self.name, description=description)

    def __repr__(self) -> str:
        return f"<Agent {self.name} {self.model}, {len(self.tools)} tools>"
