"""Ctrl-C as an event of the loop.

Law: a signal never interrupts code at a random place while the block lasts; it calls a function between two steps.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_interrupt(act: Callable[[int], object]) -> Iterator[None]:
    """Call `act` with the signal's number for each SIGINT and SIGTERM while the block lasts."""
    loop = asyncio.get_running_loop()
    caught: list[tuple[signal.Signals, Any]] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            before = signal.getsignal(number)
            loop.add_signal_handler(number, act, number)
        except (NotImplementedError, ValueError, RuntimeError):
            # Windows, or not the main thread: Ctrl-C is a KeyboardInterrupt there.
            continue
        caught.append((number, before))
    try:
        yield
    finally:
        for number, before in caught:
            loop.remove_signal_handler(number)
            # Removing sets the default; asyncio.run had a handler of its own, which cancels the main task.
            signal.signal(number, before or signal.SIG_DFL)
