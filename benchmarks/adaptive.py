"""A client without numbers beside one with the best fixed setting, against servers on real sockets.

    python benchmarks/adaptive.py [--seconds 30] [--callers 100] [--only WORD] [-o DIRECTORY]

The servers: a queue of 4 slots that refuses nobody; llama.cpp's own server with 4 slots; GPU batches of 16; nginx with
`limit_req` and with `limit_conn` (503, without a word); the simulator with 12 attempts at once; a fixed and a sliding
window whose minute lasts 6 s; two models of the simulator with limits of their own. Each setting has a server of its
own, and both run at the same time, so that what else the machine does is the same for both. llama.cpp computes its
answers on the processors that this program runs on; the best setting there is the best of some that were tried at the
same time. nginx is left out where it is not installed, and llama.cpp without its packages (`pip install xllamacpp
gguf`).

`share` is what was answered of what the best fixed setting got in the same time, `later` the same of the second half,
when the limits are known. `most` is the most that were in flight at once. A limit is told when it has held for a
minute, so a run of less than 150 s tells little. A picture of each has the most in flight in each half second, and the
answers a second, as the mean of two seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from answers import completion_body
from plots import over_time

sys.path.insert(0, str(Path(__file__).parents[1]))

from aimlasync import AimlasyncError, AsyncClient, Endpoint, Limits, Retry
from aimlasync.simulator import Latency, Simulator
from tests.support import llama_cpp

MODEL, OTHER = "openai/gpt-5-nano-2025-08-07", "openai/gpt-5-mini-2025-08-07"
MESSAGES: Any = [{"role": "user", "content": "Hello"}]
ANSWER = 0.2
MINUTE = 6.0
# Seconds: how often it is looked at what is in flight, a point of the picture, and what answers are averaged over.
LOOK, POINT, MEAN = 0.02, 0.5, 2.0


class Judge:
    """A server that counts; `takes` refuses, `waits` is how long an answer takes with so many at the server."""

    def __init__(
        self, takes: Callable[[float], bool] | None = None, waits: Callable[[int], float] | None = None
    ) -> None:
        self.takes = takes
        self.waits = waits or (lambda _: ANSWER)
        self.slots: asyncio.Semaphore | None = None
        self.in_flight = 0

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        if self.takes is not None and not self.takes(time.monotonic()):
            return web.json_response({"error": {"message": "Too Many Requests"}}, status=429)
        self.in_flight += 1
        try:
            if self.slots is None:
                await asyncio.sleep(self.waits(self.in_flight))
            else:
                async with self.slots:
                    await asyncio.sleep(ANSWER)
        finally:
            self.in_flight -= 1
        return web.Response(body=completion_body(), content_type="application/json")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


def fixed_window(limit: int) -> Callable[[float], bool]:
    """So many in each window that begins on the clock."""
    seen = [0.0, 0]

    def takes(now: float) -> bool:
        if now // MINUTE != seen[0]:
            seen[:] = now // MINUTE, 0
        seen[1] += 1
        return seen[1] <= limit

    return takes


def sliding_window(limit: int) -> Callable[[float], bool]:
    """So many in every window."""
    taken: deque[float] = deque()

    def takes(now: float) -> bool:
        while taken and taken[0] <= now - MINUTE:
            taken.popleft()
        if len(taken) >= limit:
            return False
        taken.append(now)
        return True

    return takes


@asynccontextmanager
async def judged(judge: Judge, slots: int = 0) -> AsyncIterator[str]:
    judge.slots = asyncio.Semaphore(slots) if slots else None
    async with judge.serve() as port:
        yield f"http://127.0.0.1:{port}/v1"


@asynccontextmanager
async def behind_nginx(limit: str, zone: str) -> AsyncIterator[str]:
    """nginx with one directive before a judge that takes everything."""
    async with Judge().serve() as port:
        with tempfile.TemporaryDirectory() as folder:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                listening = free.getsockname()[1]
            config = Path(folder) / "nginx.conf"
            config.write_text(
                f"daemon off; pid {folder}/pid; error_log /dev/null; events {{ worker_connections 2048; }}\n"
                f"http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};\n"
                f"fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder}; {zone}\n"
                f"server {{ listen 127.0.0.1:{listening}; location / {{ {limit}\n"
                f"proxy_pass http://127.0.0.1:{port}; }} }} }}\n"
            )
            nginx = await asyncio.create_subprocess_exec("nginx", "-c", str(config), stderr=asyncio.subprocess.DEVNULL)
            try:
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", listening)
                        writer.close()
                        break
                    except OSError:
                        if nginx.returncode is not None:
                            raise RuntimeError("nginx does not start") from None
                        await asyncio.sleep(0.05)
                yield f"http://127.0.0.1:{listening}/v1"
            finally:
                if nginx.returncode is None:
                    nginx.terminate()
                await nginx.wait()


@asynccontextmanager
async def simulated(**options: Any) -> AsyncIterator[str]:
    async with Simulator(latency=Latency.of(ttft=ANSWER), **options) as simulator:
        yield simulator.base_url


@asynccontextmanager
async def llama_server() -> AsyncIterator[str]:
    """llama.cpp's own server, with a model that writes 64 tokens in about 0.1 s."""
    with tempfile.TemporaryDirectory() as folder, llama_cpp.serve(Path(folder), tokens=64, width=256, layers=6) as url:
        yield url


Server = Callable[[], Any]
# Name -> the server, the best fixed setting, and the models asked.
CASES: dict[str, tuple[Server, Limits, Sequence[str]]] = {
    "queue of 4 slots": (lambda: judged(Judge(), 4), Limits(concurrency=5), [MODEL]),
    "llama.cpp, 4 slots": (llama_server, Limits(concurrency=5), [MODEL]),
    "batches of 16": (
        lambda: judged(Judge(waits=lambda n: ANSWER * (1 + max(0, n - 16) / 16))),
        Limits(concurrency=17),
        [MODEL],
    ),
    "nginx limit_req": (
        lambda: behind_nginx(
            "limit_req zone=one burst=5 nodelay;", "limit_req_zone $server_addr zone=one:1m rate=40r/s;"
        ),
        Limits(requests_per_minute=2400),
        [MODEL],
    ),
    "nginx limit_conn": (
        lambda: behind_nginx("limit_conn one 8;", "limit_conn_zone $server_addr zone=one:1m;"),
        Limits(concurrency=8),
        [MODEL],
    ),
    "simulator, 12 at once": (lambda: simulated(concurrency=12), Limits(concurrency=12), [MODEL]),
    "fixed window": (lambda: judged(Judge(fixed_window(120))), Limits(requests_per_minute=1200), [MODEL]),
    "sliding window": (lambda: judged(Judge(sliding_window(120))), Limits(requests_per_minute=1200), [MODEL]),
    "two models, 3 and 20": (
        lambda: simulated(model_limits={MODEL: Limits(concurrency=3), OTHER: Limits(concurrency=20)}),
        # There is no fixed setting for both: each has a client of its own.
        Limits(),
        [MODEL, OTHER],
    ),
}
BEST_OF_TWO = {MODEL: Limits(concurrency=3), OTHER: Limits(concurrency=20)}
# Where nobody can say which setting is the best.
TRIED = {"llama.cpp, 4 slots": [Limits(concurrency=limit) for limit in (2, 4, 5, 8)]}


class Run:
    """What one setting got of one server."""

    def __init__(self) -> None:
        self.answers = self.later = self.refused = self.failed = self.most = 0
        self.seconds: list[float] = []
        self.told: list[str] = []
        self.in_flight: list[tuple[float, float]] = []
        self.per_second: list[tuple[float, float]] = []

    async def _call(self, client: AsyncClient, model: str, half: float, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            try:
                reply = await client.chat.completions.create(model=model, messages=MESSAGES, priority="bulk")
            except AimlasyncError:
                self.failed += 1
                continue
            if (now := loop.time()) < end:
                self.answers += 1
                self.later += now >= half
                timing = reply.info.timing
                self.seconds.append((timing.total or 0.0) - (timing.queued or 0.0) - (timing.limited or 0.0))

    async def _watch(self, clients: list[AsyncClient], began: float) -> None:
        loop = asyncio.get_running_loop()
        seen: deque[tuple[float, int]] = deque([(began, 0)])
        while True:
            most = 0
            while loop.time() < seen[-1][0] + POINT:
                await asyncio.sleep(LOOK)
                most = max(most, sum(figures.in_flight for client in clients for figures in client.statistics()))
            self.most = max(self.most, most)
            now = loop.time()
            seen.append((now, self.answers))
            if now - seen[0][0] > MEAN + POINT / 2:
                seen.popleft()
            self.in_flight.append((now - began, most))
            self.per_second.append((now - began, (self.answers - seen[0][1]) / (now - seen[0][0])))

    async def take(
        self, url: str, models: Sequence[str], limits: dict[str, Limits | None], callers: int, seconds: float
    ) -> None:
        """Let callers ask for so many seconds; models with equal limits have one client."""
        loop = asyncio.get_running_loop()
        began, retry = loop.time(), Retry(attempts=1000)
        half, end = began + seconds / 2, began + seconds
        made: dict[Any, AsyncClient] = {}
        for model in models:
            given = limits.get(model)
            if given not in made:
                made[given] = AsyncClient(endpoints=[Endpoint(base_url=url, api_key="k")], limits=given, retry=retry)
        watch = asyncio.create_task(self._watch(list(made.values()), began))
        calls = [
            asyncio.create_task(self._call(made[limits.get(model)], model, half, end))
            for model in models
            for _ in range(callers)
        ]
        await asyncio.sleep(seconds)
        for task in [watch, *calls]:
            task.cancel()
        await asyncio.gather(watch, *calls, return_exceptions=True)
        for client in made.values():
            for figures in client.statistics():
                self.refused += figures.refused
                self.told += [each.learned for each in figures.models if each.learned is not None]
            await client.close()

    @property
    def p95(self) -> float:
        """Seconds at the server that 95 % of the answers stayed below."""
        return sorted(self.seconds)[int(0.95 * len(self.seconds))] if self.seconds else float("nan")

    @property
    def share_refused(self) -> float:
        """Refused attempts in a hundred."""
        return 100 * self.refused / max(1, self.answers + self.refused)


async def run(name: str, limits: Limits | None, callers: int, seconds: float) -> Run:
    """Ask a new server of that name under these limits; None for limits that are learned."""
    serve, _, models = CASES[name]
    taken = Run()
    two = BEST_OF_TWO if limits is not None and len(models) > 1 else {}
    async with serve() as url:
        await taken.take(url, models, {model: two.get(model, limits) for model in models}, callers, seconds)
    return taken


async def compare(name: str, callers: int, seconds: float, folder: Path) -> None:
    _, best, _ = CASES[name]
    if name in TRIED:
        tried = await asyncio.gather(*(run(name, limits, callers, seconds) for limits in TRIED[name]))
        best = max(zip(tried, TRIED[name], strict=True), key=lambda each: each[0].answers)[1]
        print(f"{name}: best of those tried is {best.concurrency} at once", flush=True)
    learned, fixed = await asyncio.gather(*(run(name, limits, callers, seconds) for limits in (None, best)))
    print(
        f"{name:22} {learned.answers / max(1, fixed.answers):6.2f} {learned.later / max(1, fixed.later):6.2f} "
        f"{learned.share_refused:8.1f} {fixed.share_refused:5.1f} {learned.p95:7.2f} {fixed.p95:6.2f} "
        f"{learned.most:6} {fixed.most:5} {learned.failed:7}",
        *learned.told,
        sep="\n    ",
        flush=True,
    )
    over_time(
        folder / f"adaptive-{name.replace(' ', '-').replace(',', '')}.svg",
        name,
        {
            "in flight": {"no numbers": learned.in_flight, "best fixed": fixed.in_flight},
            "answers a second": {"no numbers": learned.per_second, "best fixed": fixed.per_second},
        },
    )


async def main(options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    print(f"{'server':22}  share  later  refused  best     p95   best   most  best  failed   (refused: %, p95: s)")
    for name in CASES:
        if options.only and options.only not in name:
            continue
        if name.startswith("nginx") and shutil.which("nginx") is None:
            print(f"{name:22} left out: nginx is not installed")
            continue
        if name.startswith("llama.cpp") and not llama_cpp.is_installed():
            print(f"{name:22} left out: {llama_cpp.TO_INSTALL}")
            continue
        await compare(name, options.callers, options.seconds, options.output)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=30.0, help="that each of the two settings runs")
    words.add_argument("--callers", type=int, default=100, help="that ask at once, for each model")
    words.add_argument("--only", default="", help="cases whose name has this word")
    words.add_argument("-o", "--output", type=Path, default=Path("benchmark-results"))
    asyncio.run(main(words.parse_args()))
