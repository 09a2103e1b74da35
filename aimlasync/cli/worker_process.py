"""One process of `--workers`: how it is started, and how its parent waits for it.

On Linux a process that has no threads forks, before its event loop and its first file: the workers then need no import,
and share the memory of those that were made. Elsewhere, and to start a worker again, a new Python is spawned. Either
waits for the address of its parent, and ends when that is closed instead, as it is when the parent dies. It imports
`_command_line`, `ctrl_c`, and the commands within the new process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from aimlasync._command_line import collect_seldom
from aimlasync.cli.ctrl_c import ENDING, exit_code, signals_interrupt

PART = "AIMLASYNC_PART"
"""The variable that says a worker's part, and where its parent listens."""


class WorkerProcess:
    """The worker of part `index` of `count`, which runs the command with `arguments` once `begin` was called.

    `siblings` are those that were started before: a fork must not hold the ends of their pipes.
    """

    def __init__(
        self, index: int, count: int, arguments: Sequence[str], *, siblings: Sequence[WorkerProcess] = ()
    ) -> None:
        can_fork = sys.platform == "linux" and threading.active_count() == 1
        context: Any = get_context("fork" if can_fork else "spawn")
        receiver, self._sender = context.Pipe(duplex=False)
        inherited = [self._sender, *(each._sender for each in siblings)] if can_fork else []
        self._process = context.Process(
            target=_work, args=(f"{index}/{count}", tuple(arguments), receiver, inherited), daemon=True
        )
        if can_fork:
            # A signal that came before `_work` has its handlers would be lost: the interpreter clears what is pending
            # in a fork, and ignores what its own hooks raise. The worker takes the mask off.
            held = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, held)
        else:
            self._process.start()
        receiver.close()

    @property
    def pid(self) -> int:
        """Its number in the system."""
        return int(self._process.pid)

    def begin(self, address: str) -> None:
        """Let it work for the parent that listens at `address`."""
        # One that has died already is noticed by `wait`.
        try:
            self._sender.send(address)
        except OSError:
            pass
        finally:
            self._sender.close()

    def terminate(self) -> None:
        """Send it SIGTERM, unless it has ended."""
        self._process.terminate()

    async def wait(self) -> int:
        """Wait for its end, and return its exit code; a negative one is the signal that killed it."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def tell() -> None:
            if not ended.done():
                ended.set_result(None)

        def watch() -> None:
            self._process.join()
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell)

        # A thread of its own: with more workers than threads of the loop's pool, calls would wait for those.
        threading.Thread(target=watch, daemon=True).start()
        await ended
        return int(self._process.exitcode or 0)


def _work(part: str, arguments: Sequence[str], receiver: Connection, inherited: Sequence[Connection]) -> None:
    """Be a worker: wait for the parent's address, and run the command."""
    # Ctrl-C on the terminal is for the parent, which tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    for each in inherited:
        each.close()
    try:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        try:
            address = receiver.recv()
        except (EOFError, OSError):
            # The parent ended before the job began.
            raise SystemExit(1) from None
        receiver.close()
        for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
            null = os.open(os.devnull, mode)
            os.dup2(null, number)
            os.close(null)
        os.environ[PART] = f"{part} {address}"
        from aimlasync.cli import cli

        # Where it was not forked from the command.
        collect_seldom()
        with signals_interrupt():
            cli(args=list(arguments), prog_name="aimlasync")
    except KeyboardInterrupt:
        raise SystemExit(exit_code()) from None
