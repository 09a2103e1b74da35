"""Lets the simulator answer for programs that find no key, such as the examples.

It changes two variables of the environment while the block runs, and imports `thread` and the names of the variables.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aimlasync.endpoints.providers import VENDORS
from aimlasync.simulator.server import Simulator
from aimlasync.simulator.thread import serve_in_thread

_KEY, _URL = "AIML_API_KEY", "AIML_API_URL"


@contextmanager
def stand_in(**options: Any) -> Iterator[Simulator | None]:
    """Serve a simulated AI/ML API where the environment has no key of a vendor, and say so on stderr.

    Until the block ends, AIML_API_KEY and AIML_API_URL lead clients to it. With a key in the environment nothing is
    done, and the block gets None. `options` are those of `Simulator`.
    """
    if any(os.environ.get(name, "").strip() for vendor in VENDORS for name in vendor.key_variables):
        yield None
        return
    before = {name: os.environ.get(name) for name in (_KEY, _URL)}
    with serve_in_thread(**options) as simulator:
        sys.stderr.write("no AIML_API_KEY or BYTESPIKE_API_KEY: the built-in simulator answers\n")
        os.environ.update({_KEY: simulator.key, _URL: simulator.base_url})
        try:
            yield simulator
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
