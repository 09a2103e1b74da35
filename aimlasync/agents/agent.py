"""An agent: a model with its instructions, tools, output type and bounds; made once, run many times.

Plain data that is checked when the agent is made; the schemas of the tools and of the output are made here too. This
module may import `tools`, `context`, `run_state` and `errors`, and the package's `schema` and parameters; it runs
nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, Unpack, overload

from aimlasync.agents.context import RunContext
from aimlasync.agents.errors import AgentError, ToolError
from aimlasync.agents.run_state import Endpoint, OutputT, Run, ToolCall
from aimlasync.agents.tools import Tool, ToolOrFunction, tool, tool_of
from aimlasync.chat.types import PARAMETERS
from aimlasync.chat.vendor_parameters import VendorParameters
from aimlasync.config import CALL_OPTIONS, Priority, Structured, check_headers
from aimlasync.errors import AnswerError
from aimlasync.responses.types import PARAMETERS as RESPONSE_PARAMETERS
from aimlasync.spelling import close_to
from aimlasync.structured.schema import Format, format_of

T = TypeVar("T")


class CallParams(VendorParameters, total=False):
    """Parameters of the model calls that a run makes; others go through `extra_body`."""

    temperature: float | None
    top_p: float | None
    max_completion_tokens: int | None
    max_tokens: int | None
    max_output_tokens: int | None
    reasoning_effort: str | None
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
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[str, float] | None
    provider: str | None
    web_search_options: Mapping[str, Any] | None
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


OnToolError = Callable[[ToolCall, BaseException], str | Awaitable[str | None] | None]
"""Chooses what the model is told of a tool that failed; None leaves it to the default."""


class Parts(CallParams, total=False):
    """The options of an agent but its output, as `run`, `stream` and `map` take them; `Agent` says what they mean."""

    name: str
    model: str
    instructions: str | None
    tools: Iterable[ToolOrFunction]
    endpoint: Endpoint
    max_turns: int
    max_tool_calls: int | None
    max_repairs: int
    max_repeats: int | None
    strict: bool | None
    on_tool_error: OnToolError | None


class Options(Parts, total=False):
    """The options of an agent."""

    output: Any


class Agent(Generic[OutputT]):
    """A model with its instructions, tools and bounds, for `run`, `stream` and `map`, or as a tool of another agent.

    model           the model's id; the one option that must be given
    instructions    the system prompt
    tools           functions with type hints, `Tool` objects, tools of MCP servers
    output          the type of the answer; None for a text
    endpoint        "chat" (chat/completions) or "responses"
    max_turns       model calls of one run, repairs included
    max_tool_calls  tool calls of one run; None for any number
    max_repairs     how often the model is asked again after an answer that is not of the output type
    max_repeats     how many consecutive turns may make the same call with the same result before the model is told to
                    stop; None for any number
    strict          one value for all tools, for servers that refuse strict and loose ones in one request; None leaves
                    each as it was made
    on_tool_error   a function of the call and the error, awaited if need be, whose text the model gets as the result of
                    a tool that failed. None, or a function that returns None: the text of a `ToolError`, and of any
                    other error only that there was one. What it raises ends the run.
    name            the agent's name in errors, and as a tool of another agent

    The other parameters go to every model call: temperature, top_p, max_completion_tokens, max_tokens,
    max_output_tokens, reasoning_effort, reasoning, verbosity, text, seed, stop, tool_choice, parallel_tool_calls,
    stream_options, store, include, metadata, truncation, user, service_tier, prompt_cache_key, safety_identifier,
    frequency_penalty, presence_penalty, logit_bias, provider, web_search_options, extra_headers, extra_body,
    structured, priority, tenant, affinity (see `CallParams`), and those that vendors document: chat_template_kwargs,
    enable_thinking, include_reasoning, reasoning, thinking, thinking_budget, echo, min_p, repetition_penalty,
    top_a, top_k, enable_search, last_updated_after_filter, last_updated_before_filter, return_images,
    return_related_questions, search_after_date_filter, search_before_date_filter, search_domain_filter,
    search_language_filter, search_mode, search_options, search_parameters, search_recency_filter, web_search,
    normalize_tool_schemas, stop_sequences, system. Others go through `extra_body`.

    Raises TypeError for an unknown option, or a tool or type that has no strict schema; ValueError for a missing model,
    a bound that is out of range, or two tools of one name.
    """

    @overload
    def __init__(self, *, output: type[OutputT], **options: Unpack[Parts]) -> None: ...
    @overload
    def __init__(self: Agent[str], *, output: None = None, **options: Unpack[Parts]) -> None: ...
    @overload
    def __init__(self: Agent[Any], *, output: Any, **options: Unpack[Parts]) -> None: ...

    def __init__(
        self,
        *,
        model: str = "",
        instructions: str | None = None,
        tools: Iterable[ToolOrFunction] = (),
        output: Any = None,
        endpoint: Endpoint = "chat",
        max_turns: int = 10,
        max_tool_calls: int | None = None,
        max_repairs: int = 1,
        max_repeats: int | None = 3,
        strict: bool | None = None,
        on_tool_error: OnToolError | None = None,
        name: str = "agent",
        **params: Unpack[CallParams],
    ) -> None:
        check_headers(params)
        _check_names(params)
        self.name = name
        self.model = model
        self.instructions = instructions
        self.tools: dict[str, Tool] = {}
        if callable(tools) or isinstance(tools, (str, Tool)):
            raise TypeError(f"{name}: tools is a list of tools, not {type(tools).__name__}")
        for tool_or_function in tools:
            made = tool_of(tool_or_function)
            if strict is not None and strict != made.is_strict:
                made = made.but(strict=strict)
            if made.name in self.tools:
                raise ValueError(
                    f"{name}: two tools are called {made.name}; give one of them another name "
                    "(agents.tool(..., name=), a tool's .but(name=), or prefix= for the tools of an MCP server)"
                )
            self.tools[made.name] = made
        self.output = output
        self.output_format: Format[Any] | None = None if output is None else format_of(output)
        self.endpoint: Endpoint = endpoint
        self.max_turns = max_turns
        self.max_tool_calls = max_tool_calls
        self.max_repairs = max_repairs
        self.max_repeats = max_repeats
        self.strict = strict
        self.on_tool_error = on_tool_error
        self.params: dict[str, Any] = dict(params)
        if not model:
            raise ValueError(f"{name}: model= is missing")
        if endpoint not in ("chat", "responses"):
            raise ValueError(f'{name}: endpoint must be "chat" or "responses", not {endpoint!r}')
        for bound, least in _LEAST.items():
            value = getattr(self, bound)
            if value is None and bound in ("max_tool_calls", "max_repeats"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: {bound} must be a whole number of at least {least}, not {value!r}")

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
        own: dict[str, Any] = {name: getattr(self, name) for name in _OWN}
        own["tools"] = self.tools.values()
        return Agent(**{**own, **self.params, **options})

    def as_tool(self, *, name: str | None = None, description: str) -> Tool:
        """Return a tool that gives this agent a task and returns its answer.

        The sub-agent runs with the caller's client, context, budget and approvals; its usage counts as the caller's.
        When it ends without an answer, the caller's model is told why.
        """

        async def ask(context: RunContext[Any], task: str) -> Any:
            run = Run(model=self.model, endpoint=self.endpoint)
            try:
                await context._runner.delegate(self, run, task)
            except (AgentError, AnswerError) as error:
                raise ToolError(f"{type(error).__name__}: {error}") from error
            finally:
                context.run.usage.add(run.usage)
            if run.status == "waiting":
                waiting = ", ".join(call.name for call in run.waiting)
                raise ToolError(f"it needs an approval that nobody can give here: {waiting}")
            return run.output

        return tool(ask, name=name or self.name, description=description)

    def __repr__(self) -> str:
        return f"<Agent {self.name} {self.model}, {len(self.tools)} tools>"


_OWN = tuple(name for name in Options.__annotations__ if name not in CallParams.__annotations__)
_LEAST = {"max_turns": 1, "max_tool_calls": 0, "max_repairs": 0, "max_repeats": 1}
# Arguments of `run`, `stream` and `map` that are not an agent's.
_OF_A_RUN = ("input", "history", "context", "approve", "approvals", "budget", "timeout", "save", "concurrency", "order")
_PARAMETERS = CallParams.__optional_keys__ | (PARAMETERS | RESPONSE_PARAMETERS | CALL_OPTIONS).difference(_OF_A_RUN)


def _check_names(params: Any) -> None:
    """Raise TypeError, with advice, for a parameter that no model call has."""
    for name in params:
        if name in _PARAMETERS:
            continue
        if name in _OF_A_RUN:
            advice = "; that is an argument of agents.run, agents.stream or agents.map, and not of an agent"
        else:
            hint = close_to(name, (*_OWN, *_OF_A_RUN, *sorted(_PARAMETERS)))
            hint = hint or f"; an agent has {', '.join(_OWN)};"
            advice = f"{hint} to send it anyway, use extra_body={{{name!r}: ...}}"
        raise TypeError(f"unknown option {name!r}{advice}")
