"""--ray: the Ray cluster that a command asks through, and the store that keeps answers on their way.

Ray is imported only when it is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aimlasync.bulk.batch_chat import BatchChat
from aimlasync.bulk.jobs.ask_one import Answerer
from aimlasync.bulk.tasks.tasks import Task
from aimlasync.cli.ctrl_c import starting
from aimlasync.cli.errors import CommandError, WrongUseError
from aimlasync.cli.job_options import JobOptions
from aimlasync.cli.server import Server
from aimlasync.cli.terminal import counted
from aimlasync.endpoints.providers import AIMLAPI
from aimlasync.store import DirectoryStore, SQLiteStore


class RayCluster:
    """A cluster that was joined or begun. Raises WrongUseError or CommandError."""

    def __init__(
        self, flags: JobOptions, server: Server, output: str, *, shared: Callable[[], Any] | None = None
    ) -> None:
        if flags.max_usd is not None:
            raise WrongUseError("--max-usd is kept by one process, and --ray has many; use --max-tokens")
        if server.where.proxy:
            raise WrongUseError("--ray goes through no proxy; leave --proxy out")
        self._flags = flags
        self._server = server
        self._shared = shared
        self._store = flags.kept_answers()
        # A store beside the output, made where no other was named and the cluster is this machine.
        self._own: DirectoryStore | None = None
        self._address = flags.ray or None
        if server.endpoint is None and self._address is not None:
            raise WrongUseError("the simulator is on this machine alone; leave the address of --ray out, or --simulate")
        try:
            from aimlasync import ray
        except ImportError as error:
            raise WrongUseError(f"--ray: {error}") from None
        try:
            with starting():
                ray.connect(self._address)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"at {self._address}" if self._address else "here"
            raise CommandError(
                f"--ray: no cluster {where} ({error}); ray start --head begins one, RAY_AUTH_TOKEN opens it"
            ) from None
        self._ray = ray
        self._processes = ray.processors()
        processes = "1 process" if self._processes == 1 else f"{self._processes:,} processes"
        self.description = f"{processes} on {counted(ray.machines(), 'machine')}"
        if isinstance(self._store, SQLiteStore) and ray.machines() > 1:
            raise WrongUseError(
                f"--store {flags.store}: an SQLite file is for one machine; name a shared DIR or a Redis"
            )
        if self._store is None and output != "-" and ray.machines() == 1:
            self._store = self._own = DirectoryStore(f"{output}.answers")
            if flags.restart:
                self._own.remove()

    @asynccontextmanager
    async def open(self, task: Task) -> AsyncIterator[Answerer]:
        """Begin the processes that answer for `task`."""
        flags, server = self._flags, self._server
        environment: dict[str, str] = {}
        async with AsyncExitStack() as stack:
            if server.endpoint is None:
                from aimlasync.simulator import Latency, serve_in_thread

                latency = Latency.of(ttft=0.15, tokens_per_second=400, spread=0.4)
                simulator = stack.enter_context(serve_in_thread(latency=latency))
                environment = {AIMLAPI.key_variables[0]: simulator.key, "AIML_API_URL": simulator.base_url}
            # Without --quota the cluster leases the limits itself.
            quota = (
                self._shared if self._shared is not None or not flags.limits.is_rated else self._ray.shared_quota("")
            )
            chat = BatchChat(
                task=task,
                base_url=server.where.base_url,
                key_env=server.where.key_env,
                allow_http=server.where.allow_http,
                limits=self._ray.own_share(flags.limits, self._processes),
                quota=quota,
                retry_invalid=flags.retry_invalid,
                store=None if self._own is not None else self._store,
                family=server.family,
            )
            # Beside the output are the rows of this job alone; no other client looks there.
            chat.store = self._store
            yield await stack.enter_async_context(
                self._ray.Cluster(chat, processes=self._processes, environment=environment)
            )

    def forget(self) -> None:
        """Delete the store beside the output: the job is done, and its answers are in the journal."""
        if self._own is not None:
            self._own.remove()
