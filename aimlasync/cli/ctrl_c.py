"""Handlers of SIGINT (Ctrl-C), SIGTERM and SIGHUP: they call a function of a running job, and interrupt other commands.

While `on_interrupt` lasts, a signal calls a function between two steps of the loop and never interrupts code at a
random place. What a job does then is `JobView.interrupt` in `run_job`; with `--workers`, the parent alone gets Ctrl-C
and tells the worker processes (`workers_option`). A SIGHUP that was ignored when the process began (nohup) stays
ignored. It imports the standard library alone.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

HANG_UP: int | None = getattr(signal, "SIGHUP", None)

ENDING = [signal.SIGINT, signal.SIGTERM, *([signal.Signals(HANG_UP)] if HANG_UP is not None else [])]
"""What ends a process: SIGINT, SIGTERM and, where there is one, SIGHUP."""

# The signal that interrupted this process last.
_last: list[int] = [signal.SIGINT]


def exit_code() -> int:
    """Return the exit code of a process that was interrupted: 128 and the number of the signal."""
    return 128 + _last[0]


def interrupt(number: int) -> NoReturn:
    """End the command because of signal `number`."""
    _last[0] = number
    raise KeyboardInterrupt


@contextmanager
def on_interrupt(act: Callable[[int], object]) -> Iterator[None]:
    """Call `act` with the signal's number for each SIGINT, SIGTERM and SIGHUP while the block lasts."""
    loop = asyncio.get_running_loop()
    caught: list[tuple[signal.Signals, Any]] = []
    for number in ENDING:
        before = signal.getsignal(number)
        if number == HANG_UP and before is signal.SIG_IGN:
            continue
        try:
            loop.add_signal_handler(number, act, number)
        except (NotImplementedError, ValueError, RuntimeError):
            # On Windows, and outside the main thread, Ctrl-C is a KeyboardInterrupt.
            continue
        caught.append((number, before))
    try:
        yield
    finally:
        for number, before in caught:
            loop.remove_signal_handler(number)
            # Removing sets the default handler; that of asyncio.run, which cancels the main task, is set again.
            signal.signal(number, before or signal.SIG_DFL)


@contextmanager
def starting() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the command while the block runs code that sets handlers of its own.

    The handlers of before are set again after it. For a main thread, within asyncio.run: there Ctrl-C would wait for
    the next step of the event loop.
    """
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except SystemExit as ended:
        # So do the handlers that Ray sets.
        interrupt(ended.code if isinstance(ended.code, int) else signal.SIGTERM)
    finally:
        for number, handler in before:
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does, so that files half written are taken away; for a main thread.

    After the block they end the process without a message.
    """
    taken = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _as_ctrl_c)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    _last[0] = number
    # Within asyncio.run the handler of SIGINT cancels the main task.
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt
