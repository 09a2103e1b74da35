"""A vendor on loopback: try the library without a key, test code against it, judge a load run.

Law: a real HTTP server that behaves like the AI/ML API, ByteSpike, or a plain OpenAI-compatible server, as far as they
document it. It depends on aiohttp and msgspec, and of this package only on the table of providers::

    async with Simulator(requests_per_minute=600, faults=[Fault("status", status=503, probability=0.01)]) as sim:
        ...                                     # any client, base_url=sim.base_url, any key
        print(sim.ledger.by_status(), sim.ledger.worst_window())
"""

from aimlasync.simulator.answers import Answer, Call
from aimlasync.simulator.asked import SimRequest, Tool
from aimlasync.simulator.faults import Fault
from aimlasync.simulator.latency import Latency
from aimlasync.simulator.ledger import Attempt, Ledger
from aimlasync.simulator.server import Simulator
from aimlasync.simulator.thread import serve_in_thread
from aimlasync.simulator.vendors import Problem
from aimlasync.simulator.windows import SlidingWindow

__all__ = [
    "Answer",
    "Attempt",
    "Call",
    "Fault",
    "Latency",
    "Ledger",
    "Problem",
    "SimRequest",
    "Simulator",
    "SlidingWindow",
    "Tool",
    "serve_in_thread",
]
