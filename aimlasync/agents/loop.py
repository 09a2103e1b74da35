"""The loop: ask the model, call the tools it wants, tell it the results, until it answers.

    while there is no answer:
        pending calls -> approve -> call, side by side -> results join the history, in order
        ask the model -> a turn: calls, which are pending now, or a text
        a text -> the answer, or what is wrong with it -> ask again

Law: one loop for `run` and `stream` and for both endpoints; a caller of the client, by its public names. Whatever ends
it, at whichever await, what was done is in `run`, and nothing is left running: tools are children of a task group, and
a model call ends with its await. A tool that fails is a result like any other.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from aimlasync.agents.adapters import Turn, dialect_of
from aimlasync.agents.agent import Agent
from aimlasync.agents.errors import (
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
from aimlasync.agents.output import read_answer
from aimlasync.agents.run_state import Repeat, Run, ToolCall
from aimlasync.agents.tools import Approve, RunContext, Tool, ToolTimeoutError
from aimlasync.agents.usage import Account
from aimlasync.cost.budget import Budget
from aimlasync.errors import (
    AimlasyncError,
    AnswerError,
    AnswerInvalidError,
    AnswerRefusedError,
    AnswerTruncatedError,
    APIStatusError,
)

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

Emit = Callable[[Event], Awaitable[None]]

_log = logging.getLogger("aimlasync.agents")


class Loop:
    """One run under way. Mutable: the run, and how often this loop has asked, called and repaired."""

    def __init__(
        self,
        client: AsyncClient,
        agent: Agent,
        run: Run,
        *,
        context: Any = None,
        approve: Approve | None = None,
        budget: Budget | None = None,
        emit: Emit | None = None,
        inherited: dict[str, Any] | None = None,
    ) -> None:
        self.client = client
        self.agent = agent
        self.run = run
        self.context = context
        self.approve = approve
        self.budget = budget
        self._emit = emit
        self._dialect = dialect_of(run.endpoint)
        self._account = Account(run, self._dialect, budget)
        create: Any = client.chat.completions.create if run.endpoint == "chat" else client.responses.create
        self._create: Callable[..., Awaitable[Any]] = create
        # What the line of the client goes by: the same for a run and the sub-agents that work for it.
        self._shared = inherited or {
            "priority": agent.params.get("priority", "interactive"),
            "tenant": agent.params.get("tenant", run.id),
        }
        params = {"affinity": run.id, **agent.params, **self._shared, "model": run.model}
        self._params = self._dialect.fixed(params, agent.tools.values(), agent.form)
        if emit is not None:
            self._params["stream"] = True
            if run.endpoint == "chat":
                # Without it some servers count no tokens in a stream.
                self._params.setdefault("stream_options", {"include_usage": True})
        self._turns = 0
        self._called = 0
        self._repairs = 0

    async def go(self, fresh: list[Any], timeout: float | None = None) -> None:
        """Go on until there is an answer, a call waits for approval, or an error ends it, which carries the run.

        Raises RunTimeoutError after `timeout` seconds. `fresh` joins the history first.
        """
        try:
            if timeout is None:
                await self._go(fresh)
                return
            try:
                async with asyncio.timeout(timeout) as bound:
                    await self._go(fresh)
            except TimeoutError:
                if not bound.expired():
                    raise
                raise RunTimeoutError(f"the run took longer than {timeout} s", run=self.run) from None
        except AimlasyncError as error:
            error.run = self.run
            raise

    async def beneath(self, agent: Agent, run: Run, task: str) -> None:
        """Let another agent work for this run."""
        inner = Loop(
            self.client,
            agent,
            run,
            context=self.context,
            approve=self.approve,
            budget=self.budget,
            inherited=self._shared,
        )
        await inner.go([{"role": "user", "content": task}])

    async def _go(self, fresh: list[Any]) -> None:
        run, agent = self.run, self.agent
        run.items += fresh
        run.status = "open"
        while True:
            if run.pending and not await self._call_tools():
                run.status = "waiting"
                if self._emit is not None:
                    await self._emit(ApprovalNeeded(run.waiting))
                return
            if self._turns >= agent.max_turns:
                raise MaxTurnsExceeded(f"no answer within {agent.max_turns} turns", run=run)
            turn = await self._ask()
            # Before anything is awaited again: an answer that exists is never asked for once more.
            if not turn.calls and self._take_answer(turn):
                run.status = "completed"
            if self._emit is not None:
                await self._emit(TurnFinished(run.turns, turn.text, turn.calls, run.usage))
            if run.status == "completed":
                if self._emit is not None:
                    await self._emit(RunFinished(run.output, run))
                return

    # The model

    async def _ask(self) -> Turn:
        """Make one model call and take its reply into the run."""
        run = self.run
        self._turns += 1
        try:
            reply = await self._reply()
        except APIStatusError as error:
            if run.response_id is None or not _forgotten(error):
                raise
            # The server keeps nothing for ever; we do.
            run.response_id, run.sent = None, 0
            reply = await self._reply()
        turn = self._dialect.turn(reply, run)
        run.turns += 1
        run.text = turn.text
        run.items += turn.items
        run.pending = turn.calls
        if not turn.calls:
            run.repeats = {}
            self._check(turn)
        elif self._params.get("tool_choice") not in (None, "auto", "none"):
            # A model that must call a tool never answers.
            del self._params["tool_choice"]
        return turn

    async def _reply(self) -> Any:
        request = {**self._params, **self._dialect.request(self.run, self.agent.instructions)}
        reservation = self._account.reserve(request)
        try:
            if self._emit is None:
                reply = await self._create(**request)
            else:
                reply = await self._streamed(request, self._emit)
        except BaseException as error:
            self._account.failed(error, reservation)
            raise
        self._account.answered(reply, reservation)
        return reply

    async def _streamed(self, request: dict[str, Any], emit: Emit) -> Any:
        stream = await self._create(**request)
        async with stream:
            async for text in stream.text:
                await emit(TextDelta(text))
            return await stream.collect()

    # The answer

    def _check(self, turn: Turn) -> None:
        """Raise for a last turn that is no answer, whatever type was asked for."""
        if turn.failure is not None:
            self._refuse(AnswerInvalidError, f"the model's run failed: {turn.failure}", turn.reply)
        if turn.refusal is not None:
            self._refuse(AnswerRefusedError, f"the model refused: {turn.refusal}", turn.reply)
        if turn.cut is not None:
            self._refuse(AnswerTruncatedError, f"the answer was cut: {turn.cut}", turn.reply)

    def _refuse(self, kind: type[AnswerError], message: str, reply: Any) -> NoReturn:
        raise kind(message, reply=reply, raw=reply.raw, info=reply.info)

    def _take_answer(self, turn: Turn) -> bool:
        """Read the answer into the run, or put into its history what is wrong with it."""
        run, form = self.run, self.agent.form
        if form is None:
            run.output = turn.text
            return True
        try:
            run.output = read_answer(turn.text, form)
        except msgspec.DecodeError as error:
            problem = str(error)
        else:
            return True
        self._repairs += 1
        if self._repairs > self.agent.max_repairs:
            self._refuse(AnswerInvalidError, f"the answer is not a {form.name}: {problem}", turn.reply)
        told = f"That is not a valid {form.name}: {problem}. Answer again, with nothing but the corrected JSON."
        run.items.append({"role": "user", "content": told})
        return False

    # The tools

    async def _call_tools(self) -> bool:
        """Call what is pending and has no result; say whether all of it has one now, and is in the history."""
        run, agent = self.run, self.agent
        calls = [call for call in run.pending if call.output is None]
        if agent.max_tool_calls is not None and self._called + len(calls) > agent.max_tool_calls:
            raise MaxToolCallsExceeded(
                f"the model wants {len(calls)} more calls; {self._called} of {agent.max_tool_calls} are made", run=run
            )
        if len(calls) == 1:
            await self._call(calls[0])
        elif calls:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._call(call))
        if any(call.output is None for call in run.pending):
            return False
        run.items += [self._dialect.result(call) for call in run.pending]
        done, run.pending = run.pending, []
        self._note_repeats(done)
        return True

    async def _call(self, call: ToolCall) -> None:
        """Give a call its result; without one it waits for approval. Raises nothing but a cancellation."""
        tool = self.agent.tools.get(call.name)
        value, problem = self._read(tool, call)
        if tool is not None and problem is None and not await self._may(tool, call):
            if call.approved is None:
                return
            problem = "this call was not approved; do not make it again"
        emit = self._emit
        if emit is not None:
            await emit(ToolStarted(call))
        started = 0.0 if emit is None else asyncio.get_running_loop().time()
        if tool is not None and problem is None:
            problem = await self._do(tool, call, value)
        if problem is not None:
            call.is_error = True
            call.output = f"error: {problem}"
        if call.output is not None and not call.output.isascii():
            # Half a surrogate pair cannot be sent, now or ever again.
            call.output = call.output.encode("utf-8", "replace").decode()
        self._called += 1
        self.run.tool_calls += 1
        if emit is not None:
            await emit(ToolFinished(call, asyncio.get_running_loop().time() - started))

    def _read(self, tool: Tool | None, call: ToolCall) -> tuple[Any, str | None]:
        """The arguments of a call, or what is wrong with it, in words for the model."""
        if tool is None:
            known = ", ".join(self.agent.tools) or "none"
            return None, f"there is no tool {call.name!r}; the tools are: {known}"
        most = self.agent.max_repeats
        if most is not None:
            before = self.run.repeats.get(_key(call))
            if before is not None and before.count >= most:
                return None, (
                    f"this call was made {before.count} times with the same arguments and the same result; "
                    "do not make it again, answer with what is known"
                )
        try:
            return tool.read(call.arguments), None
        except Exception as error:  # noqa: BLE001  # whatever a type's own checks raise
            return None, f"the arguments of {call.name} are wrong: {error}"

    async def _may(self, tool: Tool, call: ToolCall) -> bool:
        """Whether a call may be made; one that nobody can answer for keeps `approved` at None."""
        if call.approved is not None:
            return call.approved
        if tool.approve is False:
            return True
        ask = self.approve if tool.approve is True else tool.approve
        if ask is None:
            return False
        try:
            call.approved = bool(await ask(call))
        except Exception:  # noqa: BLE001  # nobody said yes
            _log.exception("the approval of %s failed", call.name)
            call.approved = False
        return call.approved

    async def _do(self, tool: Tool, call: ToolCall, value: Any) -> str | None:
        """Call a tool; return what went wrong, in words for the model."""
        try:
            call.output = await tool(RunContext(self.context, call, self), value)
            return None
        except (ToolError, ToolTimeoutError) as error:
            return str(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not ours: something that the tool awaited was cancelled.
            return "it was cancelled"
        except Exception as error:  # noqa: BLE001  # a bug in a tool is a result too, and is logged
            _log.info("tool %s failed", call.name, exc_info=True)
            return f"{type(error).__name__}: {error}"

    def _note_repeats(self, done: list[ToolCall]) -> None:
        """Count the turns in a row that made the same call with the same result."""
        most = self.agent.max_repeats
        if most is None:
            return
        seen: dict[str, Repeat] = {}
        for call in done:
            key = _key(call)
            before = self.run.repeats.get(key)
            if before is not None and before.count >= most:
                # It was told not to be made again, instead of its result.
                seen[key] = Repeat(before.count + 1, before.mark)
                continue
            mark = zlib.crc32((call.output or "").encode("utf-8", "replace"))
            same = before is not None and before.mark == mark
            seen[key] = Repeat(before.count + 1 if before is not None and same else 1, mark)
        self.run.repeats = seen
        for call in done:
            if seen[_key(call)].count > most + 1:
                raise RepeatedCallsError(
                    f"{call.name} was called again and again with the same arguments and result", run=self.run
                )


def _forgotten(error: APIStatusError) -> bool:
    """Whether a server says that it has the previous response no longer; the AI/ML API has no code for it."""
    if error.code == "previous_response_not_found":
        return True
    return error.status in (400, 404) and "previous response" in error.message.lower()


def _key(call: ToolCall) -> str:
    return f"{call.name} {call.arguments}"
