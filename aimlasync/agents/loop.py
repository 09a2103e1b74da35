"""The agent loop: ask the model, execute the tools that it calls, send it the results, until it answers.

    until there is an output:
        pending tool calls -> approve -> execute concurrently -> append the results to the history, in order
        call the model -> a turn: tool calls, which become pending, or a text
        a text -> decode the output, or append what is wrong with it and call the model again

One loop serves `run` and `stream` and both endpoints; it uses the client through its public names. When the loop ends
in an error or is cancelled, at whatever await, the run holds what was done until then and nothing keeps running: tools
are children of a task group, and a model call ends with its await. It may import the files above it in the package's
list, `structured.answer_text`, `cost.budget` and `errors`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from msgspec.structs import replace

from aimlasync.agents.adapters import Turn, adapter_for
from aimlasync.agents.agent import Agent
from aimlasync.agents.errors import MaxTurnsExceeded, RunTimeoutError, ToolError
from aimlasync.agents.events import ApprovalNeeded, Emit, RunFinished, TextDelta, TurnFinished
from aimlasync.agents.run_state import Run, Save, ToolCall
from aimlasync.agents.tool_calls import ToolExecutor
from aimlasync.agents.tools import Approve, all_loose
from aimlasync.agents.usage import UsageTracker
from aimlasync.config import check_at_least
from aimlasync.cost.budget import Budget
from aimlasync.errors import (
    AimlasyncError,
    AnswerError,
    AnswerInvalidError,
    AnswerRefusedError,
    AnswerTruncatedError,
    APIStatusError,
)
from aimlasync.logs import log_of
from aimlasync.structured.answer_text import decode_answer

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

# Agents that work for each other. Tools that go round in circles end here, and not where the stack does.
_MAX_DEPTH = 10

_log = log_of("aimlasync.agents")

# The ids of the runs that are executed now: two loops on one run would execute its tool calls twice. Mutable.
_executed: set[int] = set()


class AgentLoop:
    """Executes one run; the `Runner` of its tools. Mutable: the run, and how many turns and repairs were made."""

    def __init__(
        self,
        client: AsyncClient,
        agent: Agent,
        run: Run,
        *,
        context: Any = None,
        approve: Approve | None = None,
        budget: Budget | None = None,
        save: Save | None = None,
        emit: Emit | None = None,
        queueing: dict[str, Any] | None = None,
        depth: int = 0,
    ) -> None:
        self.client = client
        self.run = run
        self._agent = agent
        self._context = context
        self._approve = approve
        self._budget = budget
        self._save = save
        self._is_saved = False
        # How many agents this one works for.
        self._depth = depth
        self._emit = emit
        self._adapter = adapter_for(run.endpoint)
        self._usage = UsageTracker(run, budget)
        self._tools = ToolExecutor(self, agent, context=context, approve=approve, emit=emit)
        create: Any = client.chat.completions.create if run.endpoint == "chat" else client.responses.create
        self._create: Callable[..., Awaitable[Any]] = create
        # What the client's fair queue orders calls by: the same for a run and the sub-agents that work for it.
        self._queueing = queueing or {
            "priority": agent.params.get("priority", "interactive"),
            "tenant": agent.params.get("tenant", run.id),
        }
        params = {"affinity": run.id, **agent.params, **self._queueing, "model": run.model}
        self._params = self._adapter.fixed_params(params, agent.tools.values(), agent.output_format)
        if emit is not None:
            self._params["stream"] = True
            if run.endpoint == "chat":
                # Some servers state no usage in a stream unless they are asked to.
                self._params.setdefault("stream_options", {"include_usage": True})
        self._turns = 0
        self._repairs = 0

    async def execute(self, new_items: list[Any], timeout: float | None = None) -> None:
        """Execute the run until it is completed or a tool call waits for approval.

        `new_items` are appended to the history first. Every AimlasyncError that ends the run carries it as `.run`;
        RunTimeoutError is raised after `timeout` seconds. The run is saved whichever way it ends. Raises ValueError for
        a run that is executed already, TypeError for a timeout that is no number.
        """
        check_at_least(0, timeout=timeout)
        if id(self.run) in _executed:
            # It is the other one's to save.
            self._is_saved = True
            raise ValueError(f"the run {self.run.id} is under way: wait for its end, or go on with a copy of it")
        _executed.add(id(self.run))
        try:
            await self._within(new_items, timeout)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, AimlasyncError):
                error.run = self.run
            await self.store_at_last()
            raise
        finally:
            _executed.discard(id(self.run))

    async def _within(self, new_items: list[Any], timeout: float | None) -> None:
        if timeout is None:
            await self._loop(new_items)
            return
        try:
            async with asyncio.timeout(timeout) as bound:
                await self._loop(new_items)
        except TimeoutError:
            if not bound.expired():
                raise
            raise RunTimeoutError(f"the run took longer than {timeout} s", run=self.run) from None

    async def _store(self) -> None:
        """Save the run once, in the state in which it ends."""
        if self._save is not None and not self._is_saved:
            saving = self._save(self.run)
            if inspect.isawaitable(saving):
                await saving
            self._is_saved = True

    async def store_at_last(self) -> None:
        """Save a run that ends without an answer, if that is not done; an error of `save` is logged."""
        try:
            await self._store()
        except Exception:  # noqa: BLE001  # what ended the run is the error that its caller must see
            # Tried once more and given up.
            self._is_saved = True
            _log.exception("the run %s could not be saved", self.run.id)

    async def delegate(self, agent: Agent, run: Run, task: str) -> None:
        """Run another agent on `task` for this run; see `context.Runner`."""
        if self._depth == _MAX_DEPTH:
            raise ToolError(
                f"{agent.name} would be agent number {_MAX_DEPTH + 1} that works for another; do without it"
            )
        inner = AgentLoop(
            self.client,
            agent,
            run,
            context=self._context,
            approve=self._approve,
            budget=self._budget,
            queueing=self._queueing,
            depth=self._depth + 1,
        )
        await inner.execute([{"role": "user", "content": task}])

    async def _loop(self, new_items: list[Any]) -> None:
        run, emit = self.run, self._emit
        if new_items:
            # What is asked comes after the results of calls that were given up.
            self._append_results()
            run.items += new_items
        run.status = "open"
        while True:
            if run.pending:
                if not await self._tools.execute_pending():
                    run.status = "waiting"
                    # Before anybody hears of it: the answer may come at once, and to another process.
                    await self._store()
                    if emit is not None:
                        await emit(ApprovalNeeded(run.waiting, run.id))
                    return
                self._tools.note_repeats(self._append_results())
            if self._turns >= self._agent.max_turns:
                most = self._agent.max_turns
                raise MaxTurnsExceeded(f"no answer within {most} turn{'' if most == 1 else 's'}", run=run)
            turn = await self._take_turn()
            # The status is set before the next await: a run that is cancelled there never asks for its answer again.
            if not turn.calls and self._take_output(turn):
                run.status = "completed"
            if emit is not None:
                # Copies: the run's own calls get approvals, and its usage grows.
                made, request_id = [replace(call) for call in turn.calls], turn.reply.info.request_id
                await emit(TurnFinished(run.turns, turn.text, made, replace(run.usage), request_id))
            if run.status == "completed":
                await self._store()
                if emit is not None:
                    await emit(RunFinished(run.output, run))
                return

    def _append_results(self) -> list[ToolCall]:
        """Append the results of the pending calls, all of which have one, to the history, and return these calls."""
        run = self.run
        run.items += self._adapter.tool_results(run.pending)
        executed, run.pending = run.pending, []
        return executed

    # The model

    async def _take_turn(self) -> Turn:
        """Call the model once and append its turn to the history."""
        run = self.run
        self._turns += 1
        try:
            reply = await self._call_model()
        except APIStatusError as error:
            if self._is_mixture_refused(error):
                _log.warning("%s refuses strict and loose tools in one request; strict=False spares asking", run.model)
                self._params["tools"] = all_loose(self._params["tools"])
            elif run.response_id is not None and _lacks_previous_response(error):
                # The server has dropped the stored conversation. The run has all of it, and sends it in full.
                run.response_id, run.sent = None, 0
            else:
                raise
            reply = await self._call_model()
        turn = self._adapter.read_turn(reply, run)
        run.turns += 1
        run.text = turn.text
        run.items += turn.items
        run.pending = turn.calls
        if not turn.calls:
            run.repeats = {}
            self._check_answer(turn)
        elif self._params.get("tool_choice") not in (None, "auto", "none"):
            # A model that is forced to call a tool in every turn never answers.
            del self._params["tool_choice"]
        return turn

    def _is_mixture_refused(self, error: APIStatusError) -> bool:
        """Return whether a server refused that some tools are strict and others are not (Cerebras does)."""
        if error.status not in (400, 422) or "strict" not in error.message.lower():
            return False
        return len({tool.is_strict for tool in self._agent.tools.values()}) > 1

    async def _call_model(self) -> Any:
        request = {**self._params, **self._adapter.history_params(self.run, self._agent.instructions)}
        reservation = self._usage.reserve(request)
        try:
            if self._emit is None:
                reply = await self._create(**request)
            else:
                reply = await self._stream_model(request, self._emit)
        except BaseException as error:
            self._usage.record_failure(error, reservation)
            raise
        self._usage.record_reply(reply, reservation)
        return reply

    async def _stream_model(self, request: dict[str, Any], emit: Emit) -> Any:
        stream = await self._create(**request)
        async with stream:
            async for text in stream.text:
                await emit(TextDelta(text))
            return await stream.collect()

    # The answer

    def _check_answer(self, turn: Turn) -> None:
        """Raise AnswerError for a last turn that failed, was refused, or was truncated."""
        if turn.failure is not None:
            _raise(AnswerInvalidError, f"the model's run failed: {turn.failure}", turn)
        if turn.refusal is not None:
            _raise(AnswerRefusedError, f"the model refused: {turn.refusal}", turn)
        if turn.truncation is not None:
            _raise(AnswerTruncatedError, f"the answer was cut: {turn.truncation}", turn)

    def _take_output(self, turn: Turn) -> bool:
        """Decode the output into the run and return True, or append what is wrong with it to the history.

        Raises AnswerInvalidError when the output is still invalid after the agent's `max_repairs`.
        """
        run, form = self.run, self._agent.output_format
        if form is None:
            run.output = turn.text
            return True
        try:
            run.output = decode_answer(turn.text, form)
        except msgspec.DecodeError as error:
            problem = str(error)
        else:
            return True
        self._repairs += 1
        if self._repairs > self._agent.max_repairs:
            _raise(AnswerInvalidError, f"the answer is not a {form.name}: {problem}", turn)
        correction = f"That is not a valid {form.name}: {problem}. Answer again, with nothing but the corrected JSON."
        run.items.append({"role": "user", "content": correction})
        return False


def _raise(kind: type[AnswerError], message: str, turn: Turn) -> NoReturn:
    raise kind(message, reply=turn.reply, raw=turn.reply.raw, info=turn.reply.info)


def _lacks_previous_response(error: APIStatusError) -> bool:
    """Return whether the server no longer has the previous response; the AI/ML API has no error code for it."""
    if error.code == "previous_response_not_found":
        return True
    return error.status in (400, 404) and "previous response" in error.message.lower()
