"""Executes the tool calls that a model asked for.

Each call goes through the same steps: find the tool, decode the arguments, ask for approval, call the tool, note the
result or what went wrong in words for the model. The calls of one turn run concurrently in a task group. A tool that
fails is a result like any other; only a cancellation is raised. It may import what a run consists of, but not the agent
loop, which is the caller.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from typing import Any

from aimlasync.agents.agent import Agent
from aimlasync.agents.context import RunContext, Runner
from aimlasync.agents.errors import MaxToolCallsExceeded, RepeatedCallsError, ToolError
from aimlasync.agents.events import Emit, ToolFinished, ToolStarted
from aimlasync.agents.run_state import Repeat, ToolCall
from aimlasync.agents.tools import Approve, Tool, ToolTimeoutError

_log = logging.getLogger("aimlasync.agents")


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

        Raises MaxToolCallsExceeded before any of them is executed when they are more than the agent may make.
        """
        pending, most = self._run.pending, self._agent.max_tool_calls
        calls = [call for call in pending if call.output is None]
        if most is not None and self._executed + len(calls) > most:
            raise MaxToolCallsExceeded(
                f"the model wants {len(calls)} more calls; {self._executed} of {most} are made", run=self._run
            )
        if len(calls) == 1:
            await self._execute(calls[0])
        elif calls:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._execute(call))
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
            checksum = zlib.crc32((call.output or "").encode("utf-8", "replace"))
            same = before is not None and before.checksum == checksum
            repeats[key] = Repeat(before.count + 1 if before is not None and same else 1, checksum)
        self._run.repeats = repeats
        for call in executed:
            if repeats[_key(call)].count > most + 1:
                raise RepeatedCallsError(
                    f"{call.name} was called again and again with the same arguments and result", run=self._run
                )

    async def _execute(self, call: ToolCall) -> None:
        """Give a call its result, or leave it without one to wait for approval. Raises nothing but a cancellation."""
        tool = self._agent.tools.get(call.name)
        arguments, problem = self._decode_arguments(tool, call)
        if tool is not None and problem is None and not await self._is_approved(tool, call):
            if call.approved is None:
                return
            problem = "this call was not approved; do not make it again"
        emit = self._emit
        if emit is not None:
            await emit(ToolStarted(call))
        started = 0.0 if emit is None else asyncio.get_running_loop().time()
        if tool is not None and problem is None:
            problem = await self._call_tool(tool, call, arguments)
        if problem is not None:
            call.is_error = True
            call.output = f"error: {problem}"
        if call.output is not None and not call.output.isascii():
            # Half a surrogate pair has no UTF-8 form: neither this request nor any later one could carry it.
            call.output = call.output.encode("utf-8", "replace").decode()
        self._executed += 1
        self._run.tool_calls += 1
        if emit is not None:
            await emit(ToolFinished(call, asyncio.get_running_loop().time() - started))

    def _decode_arguments(self, tool: Tool | None, call: ToolCall) -> tuple[Any, str | None]:
        """Return the arguments of a call, and what is wrong with the call in words for the model, or None."""
        if tool is None:
            known = ", ".join(self._agent.tools) or "none"
            return None, f"there is no tool {call.name!r}; the tools are: {known}"
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
        except Exception as error:  # noqa: BLE001  # whatever a type's own checks raise
            return None, f"the arguments of {call.name} are wrong: {error}"

    async def _is_approved(self, tool: Tool, call: ToolCall) -> bool:
        """Return whether a call may be executed; `approved` stays None for one that nobody can decide on here."""
        if call.approved is not None:
            return call.approved
        if tool.approve is False:
            return True
        approve = self._approve if tool.approve is True else tool.approve
        if approve is None:
            return False
        try:
            call.approved = bool(await approve(call))
        except Exception:  # noqa: BLE001  # an approval that fails is no approval
            _log.exception("the approval of %s failed", call.name)
            call.approved = False
        return call.approved

    async def _call_tool(self, tool: Tool, call: ToolCall, arguments: Any) -> str | None:
        """Call a tool and set the call's output; return what went wrong in words for the model, or None."""
        try:
            call.output = await tool(RunContext(self._context, call, self._runner), arguments)
            return None
        except (ToolError, ToolTimeoutError) as error:
            return str(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # This task was not cancelled: something that the tool awaited was.
            return "it was cancelled"
        except Exception as error:  # noqa: BLE001  # a bug in a tool is a result too, and is logged
            _log.info("tool %s failed", call.name, exc_info=True)
            return f"{type(error).__name__}: {error}"


def _key(call: ToolCall) -> str:
    return f"{call.name} {call.arguments}"
