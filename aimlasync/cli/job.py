"""A job as a command asks for it, before anything runs. It may import `job_options` and `server`."""

from __future__ import annotations

import os
from dataclasses import dataclass

from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.tasks.tasks import Task
from aimlasync.cli.job_options import JobOptions
from aimlasync.cli.server import Server


@dataclass(frozen=True, kw_only=True)
class AskedJob:
    """Which rows, what is asked about them, in which way, and at which server."""

    command: str
    source: Source
    task: Task
    options: Options
    flags: JobOptions
    server: Server
    models: set[str]
    """The models that it asks, whose prices are needed."""

    @property
    def title(self) -> str:
        """What the screen calls it."""
        return f"{self.command} {os.path.basename(self.source.name)}"
