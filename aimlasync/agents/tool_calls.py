"""Executes the tool calls that a model asked for.

Each call goes through the same steps: find the tool, decode the arguments, ask for approval, call the tool, note the
result or what went wrong in words for the model. The calls of one turn run concurrently in a task group. A tool that
fails is a result like any other: an error that is marked as fit for the model (`ToolError`) is told to it, and of any
other one the text goes to the log `aimlasync.agents` alone. A `ToolCall` in the run is replaced and never changed, so
that events keep what they told. It may import what a run consists of, but not the agent loop, which is the caller.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
import zlib
from typing import Any

from msgspec.structs import replace

from aimlasync.agents.agent import Agent
from aimlasync.agents.context import RunContext, Runner
from aimlasync.agents.errors import MaxToolCallsExceeded, RepeatedCallsError, ToolError
from aimlasync.agents.events import Emit, ToolFinished, ToolStarted
from aimlasync.agents.images import WithImages
from aimlasync.agents.results import cut, said
from aimlasync.agents.run_state import Repeat, ToolCall
from aimlasync.agents.tools import MAX_RESULT, Approve, Tool, ToolTimeoutError
from aimlasync.logs import log_of

# Tools that the model is told of when it calls one that there is not.
_MAX_NAMED = 20

_FAILED = "the tool failed; try it another way, or answer without it"

_log = log_of("aimlasync.agents")


class ToolExecutor:
    """Executes the pending tool calls of one run. Mutable: the number of calls executed so far."""

    def __init__(
        self, runner: Runner, agent: Agent, *, context: Any = None, approve: Approve | None = None, emit: Emit | None
    ) -> None:
        self._runner = runner
        self._run = runner.run
        self._agent = agent
        self._context = context
        self._approve = approve
        self._emit = emit
        self._executed = 0

    async def execute_pending(self) -> bool:
        """Execute the pending calls that have no result; return whether all pending calls have one now.

        Raises MaxToolCallsExceeded before any of them is executed when they are more than the agent may make, and what
        the agent's `on_tool_error` raises.
        """
        pending, most = self._run.pending, self._agent.max_tool_calls
        places = [place for place, call in enumerate(pending) if call.output is None]
        if most is not None and self._executed + len(places) > most:
            raise MaxToolCallsExceeded(
                f"the model wants {len(places)} more calls; {self._executed} of {most} are made", run=self._run
            )
        if places:
            failure: BaseException | None = None
            try:
                # A task for a single call as well: a tool that swallows a cancellation swallows its own, not the run's.
                async with asyncio.TaskGroup() as group:
                    executing = {place: group.create_task(self._execute(pending, place)) for place in places}
                for place, task in executing.items():
                    if task.cancelled() and pending[place].output is None:
                        # By the tool, or by who ends tasks that hang: the group had no reason to.
                        problem = await self._words_for(pending[place], asyncio.CancelledError())
                        await self._finish(pending, place, problem, asyncio.get_running_loop().time())
            except BaseExceptionGroup as failures:
                # The caller's `except` is for the error that `on_tool_error` raised, not for a group of one.
                failure = failures.exceptions[0]
            if failure is not None:
                raise failure
        return all(call.output is not None for call in pending)

    def note_repeats(self, executed: list[ToolCall]) -> None:
        """Count in how many consecutive turns the model made the same call with the same result.

        Raises RepeatedCallsError when it made a call again after it was told not to.
        """
        most = self._agent.max_repeats
        if most is None:
            return
        repeats: dict[str, Repeat] = {}
        for call in executed:
            key = _key(call)
            before = self._run.repeats.get(key)
            if before is not None and before.count >= most:
                # The call was refused, so its output is not the tool's: the checksum stays that of the last result.
                repeats[key] = Repeat(before.count + 1, before.checksum)
                continue
            checksum = zlib.crc32("\n".join((call.output or "", *call.images)).encode("utf-8", "replace"))
            same = before is not None and before.checksum == checksum
            repeats[key] = Repeat(before.count + 1 if before is not None and same else 1, checksum)
        self._run.repeats = repeats
        for call in executed:
            if repeats[_key(call)].count > most + 1:
                raise RepeatedCallsError(
                    f"{call.name} was called again and again with the same arguments and result", run=self._run
                )

    async def _execute(self, pending: list[ToolCall], place: int) -> None:
        """Give a call its result, or leave it without one to wait for approval.

        Raises nothing but a cancellation and what the agent's `on_tool_error` raises.
        """
        call = pending[place]
        tool = self._agent.tools.get(call.name)
        arguments, problem = self._decode_arguments(tool, call)
        if tool is not None and problem is None:
            approved = await self._is_approved(tool, call)
            if approved is None:
                return
            if tool.approve is not False and call.approved is None:
                call = pending[place] = replace(call, approved=approved)
            if not approved:
                problem = "this call was not approved; do not make it again"
        if self._emit is not None:
            await self._emit(ToolStarted(call))
        started = asyncio.get_running_loop().time()
        result: str | WithImages = ""
        if tool is not None and problem is None:
            result, problem = await self._call_tool(tool, call, arguments)
        await self._finish(pending, place, problem, started, result)

    async def _finish(
        self,
        pending: list[ToolCall],
        place: int,
        problem: str | None,
        started: float,
        result: str | WithImages = "",
    ) -> None:
        """Give a call its result, or words for what went wrong; it was `started` at that time of the loop."""
        call = pending[place]
        output, images = result if isinstance(result, WithImages) else (result, [])
        if problem is not None:
            tool = self._agent.tools.get(call.name)
            output = cut(f"error: {problem}", MAX_RESULT if tool is None else tool.max_result)
        if not output.isascii():
            # Half a surrogate pair has no UTF-8 form: neither this request nor any later one could carry it.
            output = output.encode("utf-8", "replace").decode()
        call = pending[place] = replace(call, output=output, is_error=problem is not None, images=images)
        self._executed += 1
        self._run.tool_calls += 1
        if self._emit is not None:
            await self._emit(ToolFinished(call, asyncio.get_running_loop().time() - started))

    def _decode_arguments(self, tool: Tool | None, call: ToolCall) -> tuple[Any, str | None]:
        """Return the arguments of a call, and what is wrong with the call in words for the model, or None."""
        if tool is None:
            return None, f"there is no tool {call.name[:64]!r}; {_known(call.name, [*self._agent.tools])}"
        most = self._agent.max_repeats
        if most is not None:
            before = self._run.repeats.get(_key(call))
            if before is not None and before.count >= most:
                return None, (
                    f"this call was made {before.count} times with the same arguments and the same result; "
                    "do not make it again, answer with what is known"
                )
        try:
            return tool.read(call.arguments), None
        except ValueError as error:
            return None, f"the arguments of {call.name} are wrong: {said(error)}"
        except Exception:  # noqa: BLE001  # whatever a type's own checks raise
            _log.warning("the arguments of %s could not be read", call.name, exc_info=True)
            return None, f"the arguments of {call.name} are wrong"

    async def _is_approved(self, tool: Tool, call: ToolCall) -> bool | None:
        """Return whether a call may be executed, None where nobody can decide on it here."""
        if call.approved is not None:
            return call.approved
        if tool.approve is False:
            return True
        approve = self._approve if tool.approve is True else tool.approve
        if approve is None:
            return None
        try:
            answer = approve(call)
            return bool(await answer if inspect.isawaitable(answer) else answer)
        except Exception:  # noqa: BLE001  # an approval that fails is no approval
            _log.exception("the approval of %s failed", call.name)
            return False

    async def _call_tool(self, tool: Tool, call: ToolCall, arguments: Any) -> tuple[str | WithImages, str | None]:
        """Return the result of a tool, and what went wrong in words for the model, or None."""
        try:
            return await tool(RunContext(self._context, call, self._runner), arguments), None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # This task was not cancelled: something that the tool awaited was.
            failure: BaseException = error
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  # `sys.exit` in a tool ends the tool, and not the service
            failure = error
        try:
            return "", await self._words_for(call, failure)
        finally:
            # Its frames are the tool's and this one, which would keep each other until the collector comes.
            del failure

    async def _words_for(self, call: ToolCall, failure: BaseException) -> str:
        """Return what the model is told of a tool that failed. Raises what `on_tool_error` raises."""
        words: str | None = None
        hook = self._agent.on_tool_error
        if hook is not None:
            chosen = hook(call, failure)
            words = await chosen if inspect.isawaitable(chosen) else chosen
        if isinstance(failure, ToolTimeoutError):
            return words or said(failure)
        if isinstance(failure, asyncio.CancelledError):
            return words or "it was cancelled"
        if isinstance(failure, ToolError):
            kind = type(failure)
            return words or (said(failure) if kind is ToolError else f"{kind.__name__}: {said(failure)}")
        # A bug, or a service that is away: what it says may be for nobody outside.
        _log.warning("tool %s failed", call.name, exc_info=failure)
        return words or _FAILED


def _known(name: str, tools: list[str]) -> str:
    """Say which tools there are: of many those whose names are like `name`, since each turn that follows has this."""
    if len(tools) <= _MAX_NAMED:
        return f"the tools are: {', '.join(tools) or 'none'}"
    near = difflib.get_close_matches(name[:64], tools, n=_MAX_NAMED, cutoff=0)
    return f"of the {len(tools)} tools these are the nearest: {', '.join(near)}"


def _key(call: ToolCall) -> str:
    return f"{call.name} {call.arguments}"
