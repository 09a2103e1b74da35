"""`aimlasync.run`: uvloop where it is installed, asyncio elsewhere, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

import aimlasync


async def loop_of() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def test_uvloop_serves_where_it_is_installed_and_no_program_after_it() -> None:
    pytest.importorskip("uvloop", reason="pip install 'aimlasync[uvloop]' runs this test")
    policy = asyncio.get_event_loop_policy()
    assert aimlasync.run(loop_of()) == "uvloop"
    assert asyncio.get_event_loop_policy() is policy
    assert asyncio.run(loop_of()) == "asyncio"


def test_asyncio_serves_where_uvloop_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert aimlasync.run(loop_of()) == "asyncio"


def test_the_program_may_choose_its_loop() -> None:
    assert aimlasync.run(loop_of(), loop_factory=asyncio.new_event_loop) == "asyncio"


@pytest.mark.parametrize("debug", [True, False])
def test_debug_is_the_debug_mode_of_the_loop(debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert aimlasync.run(main(), debug=debug) is debug


def test_an_error_of_the_program_comes_out_as_it_is_and_its_tasks_are_cancelled() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def main() -> None:
        task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        raise LookupError(task.get_name())

    with pytest.raises(LookupError):
        aimlasync.run(main())
    assert ended == ["cancelled"]


async def test_a_loop_within_a_loop_is_refused() -> None:
    main = loop_of()
    with pytest.raises(RuntimeError, match="running event loop"):
        aimlasync.run(main)
    main.close()


INTERRUPTED = """
import asyncio, aimlasync

async def main():
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)

try:
    aimlasync.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
@pytest.mark.parametrize("with_uvloop", [True, False])
def test_ctrl_c_cancels_the_program_and_comes_out_as_keyboard_interrupt(with_uvloop: bool) -> None:
    code = INTERRUPTED if with_uvloop else f"import sys; sys.modules['uvloop'] = None\n{INTERRUPTED}"
    command = [sys.executable, "-W", "error", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=600) == ("cleaned up\ninterrupted\n", "")
        assert process.returncode == 0
