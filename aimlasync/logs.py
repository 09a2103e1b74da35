"""The loggers of this library: what a handler or a filter raises goes to stderr, and ends no call.

A handler is to report its own errors (`logging.Handler.handleError`), and many do not. Where a line is logged, a permit
or money may be held, or a paid answer be on its way. This file imports nothing of this library.
"""

from __future__ import annotations

import logging
from typing import Any

# Reports what a handler did not report itself, as `logging.raiseExceptions` says.
_reports = logging.NullHandler()


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose methods raise nothing."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Log a line, as `logging.Logger.log` does; all other methods come here."""
        try:
            # The line of the code that logs, and not of this one.
            self.logger.log(level, msg, *args, stacklevel=2, **options)
        except Exception:  # noqa: BLE001  # the application's own handler, which may do anything
            record = logging.LogRecord(self.logger.name, level, __file__, 0, msg, args, None)
            _reports.handleError(record)


def log_of(name: str) -> Log:
    """Return the log of that name."""
    return Log(logging.getLogger(name))
