"""Commands and programs in processes that are forked from one which has imported them.

Such a process begins at once, where a start of Python takes half a second. For commands that are many, that are killed,
that need a terminal, or whose system calls fail; it has one thread, so that it can be forked. It may import the command
line.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import pty
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

_context = multiprocessing.get_context("forkserver")
# What commands load.
_context.set_forkserver_preload(
    [
        *("aimlasync.__main__", "aimlasync.bulk", "aimlasync.bulk.report", "aimlasync.cli", "aimlasync.simulator"),
        *("aiohttp.web", "rich.live", "rich.progress", "rich.table"),
    ]
)


def on_terminal(*words: str) -> tuple[int, bytes]:
    """Run a command on a terminal of 80 columns; return its exit code and all that the terminal was sent."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = _started(words, partial(_take, os.ttyname(slave)), environment)
    sent = b""
    while process.sentinel not in (ready := wait([master, process.sentinel])):
        assert ready == [master]
        sent += os.read(master, 65536)
    os.close(slave)
    try:
        while block := os.read(master, 65536):
            sent += block
    except OSError:
        # Linux says so of a terminal that nobody has open.
        pass
    os.close(master)
    return _code_of(process), sent


class Command:
    """A command that runs beside the test, with as much of `subprocess.Popen` as tests use."""

    def __init__(self, words: Sequence[str], *, stdin: IO[Any] | None = None) -> None:
        out, said = _context.Pipe(duplex=False)
        err, told = _context.Pipe(duplex=False)
        heard = Connection(
            os.open(os.devnull, os.O_RDONLY) if stdin is None else os.dup(stdin.fileno()), writable=False
        )
        prepare = partial(_join, heard, said, told)
        self._process = _started(words, prepare)
        for end in (heard, said, told):
            end.close()
        self.stdout, self.stderr = _texts(out), _texts(err)

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None of a process that runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return `returncode`."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to a process that runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code of a process that is about to end. Raises TimeoutError."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"it took over {timeout:g} s")
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what is left of both streams. Raises TimeoutError."""
        left = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            with stream:
                left[number] = stream.read()

        readers = [
            threading.Thread(target=read, args=(number, stream), daemon=True)
            for number, stream in enumerate((self.stdout, self.stderr))
            if not stream.closed
        ]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except TimeoutError:
            self.kill()
            raise
        for reader in readers:
            reader.join()
        return left[0], left[1]


def run(words: Sequence[str], timeout: float) -> tuple[int, str]:
    """Run a command; return its exit code and what it said on both streams. Raises TimeoutError."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        process = _started(words, partial(_speak, str(said)))
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{words[0]} took over {timeout:g} s")
        return _code_of(process), said.read_text(encoding="utf-8")


def run_to(out: str | None, words: Sequence[str]) -> tuple[int, str]:
    """Run a command whose standard output is a file, or closed without one; return its exit code and its stderr."""
    with tempfile.TemporaryDirectory() as folder:
        process = _started(words, partial(_write_to, out, f"{folder}/err"))
        process.join()
        return _code_of(process), Path(f"{folder}/err").read_text(encoding="utf-8")


def run_program(
    program: Callable[[], int], folder: Path, environment: Mapping[str, str], timeout: float
) -> tuple[int, str, str]:
    """Call `program` in a process of its own; return the code that it returned, and what it said on both streams.

    Raises TimeoutError.
    """
    with tempfile.TemporaryDirectory() as said:
        streams = (f"{said}/out", f"{said}/err")
        process = _started(partial(_exit, program), partial(_write, streams), environment, folder)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"it took over {timeout:g} s")
        out, err = (Path(path).read_text(encoding="utf-8") for path in streams)
        return _code_of(process), out, err


def run_failing(what: str, call: int, words: list[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command whose system call of this number, of writes and syncs, dies or fails; return code and streams."""
    with tempfile.TemporaryDirectory() as folder:
        streams = (f"{folder}/out", f"{folder}/err")
        prepare = partial(_prepare_failing, streams, what, call)
        process = _started(words, prepare, environment)
        process.join()
        out, err = (Path(path).read_text(encoding="utf-8") for path in streams)
        return _code_of(process), out, err


def _started(
    what: Sequence[str] | Callable[[], None],
    prepare: Callable[[], None],
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> multiprocessing.process.BaseProcess:
    """Start a command or a program, here or in a folder, with these variables; its process calls `prepare` first."""
    run = what if callable(what) else partial(_command, what)
    process = _context.Process(target=_run, args=(run, folder or os.getcwd(), dict(environment), prepare))
    process.start()
    return process


def _code_of(process: multiprocessing.process.BaseProcess) -> int:
    process.join()
    assert process.exitcode is not None
    code = process.exitcode
    process.close()
    return code


def _run(run: Callable[[], None], folder: str | Path, environment: dict[str, str], prepare: Callable[[], None]) -> None:
    """What the forked process does."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare()
    warnings.resetwarnings()
    warnings.simplefilter("error")
    run()


def _exit(program: Callable[[], int]) -> None:
    sys.exit(program())


def _command(words: Sequence[str]) -> None:
    sys.argv = ["aimlasync", *words]
    from aimlasync.__main__ import main

    main()


def _take(terminal: str) -> None:
    """Make `terminal` that of this process, and its standard streams."""
    os.setsid()
    fd = os.open(terminal, os.O_RDWR)
    _use(fd, fd, fd)


def _speak(said: str) -> None:
    """Read nothing, and write both streams to one file."""
    fd = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _use(os.open(os.devnull, os.O_RDONLY), fd, fd)


def _write(streams: tuple[str, str]) -> None:
    """Read nothing, and write each stream to a file."""
    out, err = (os.open(path, os.O_WRONLY | os.O_CREAT) for path in streams)
    _use(os.open(os.devnull, os.O_RDONLY), out, err)


def _write_to(out: str | None, err: str) -> None:
    """What a shell and the start of Python make of `>file` and, without a file, of `>&-`."""
    _write((os.devnull if out is None else out, err))
    if out is None:
        os.close(1)
        sys.stdout = None
    else:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _join(heard: Connection, said: Connection, told: Connection) -> None:
    """Use the ends of pipes."""
    _use(heard.fileno(), said.fileno(), told.fileno())
    for end in (heard, said, told):
        end.close()


def _texts(end: Connection) -> IO[str]:
    """What comes by a pipe, as text."""
    with end:
        return open(os.dup(end.fileno()), encoding="utf-8")


def _use(standard_input: int, output: int, errors: int) -> None:
    for number, fd in enumerate((standard_input, output, errors)):
        os.dup2(fd, number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(0, encoding="utf-8", closefd=False),  # noqa: SIM115
        open(1, "w", encoding="utf-8", closefd=False, buffering=1),  # noqa: SIM115
        open(2, "w", encoding="utf-8", closefd=False, buffering=1, errors="backslashreplace"),  # noqa: SIM115
    )


def _prepare_failing(streams: tuple[str, str], what: str, left: int) -> None:
    """Of the journal's own calls, since nothing else of Python goes through these two names."""
    _write(streams)
    # Looks for its directory by writing to it.
    tempfile.gettempdir()

    def at_the_call(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(fd: int, *data: bytes) -> Any:
            nonlocal left
            if fd > 2:
                left -= 1
                if left < 0:
                    if what == "die":
                        if data:
                            call(fd, data[0][: len(data[0]) // 2])
                        os.kill(os.getpid(), signal.SIGKILL)
                    if what == "sync" and not data:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(fd, *data)

        return made

    os.fdatasync = at_the_call(getattr(os, "fdatasync", os.fsync))
    os.write = at_the_call(os.write)
    # Imported again, for what took these two as values of its own.
    for name in [name for name in sys.modules if name.partition(".")[0] == "aimlasync"]:
        del sys.modules[name]
