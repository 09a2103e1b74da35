"""A vendor on loopback: try the library without a key, test code against it, judge a load run.

Law: a real HTTP server that behaves like the AI/ML API, ByteSpike, or a plain OpenAI-compatible server, as far as they
document it. It depends on aiohttp and msgspec, and of this package only on the table of providers::

    async with Simulator(requests_per_minute=600, faults=[Fault("status", status=503, probability=0.01)]) as sim:
        ...                                     # any client, base_url=sim.base_url, any key
        print(sim.ledger.by_status(), sim.ledger.worst_window())

An agent loop is tested with a script, which has the model's turns in order::

    Simulator(script=[Answer(calls=[Call.of("get_weather", city="Rome"), Call("get_time", "{broken")]), "It is sunny."])
"""

from aimlasync.simulator.faults import Fault
from aimlasync.simulator.latency import Latency
from aimlasync.simulator.ledger import Attempt, Ledger
from aimlasync.simulator.limits import SlidingWindow
from aimlasync.simulator.model.answers import Answer
from aimlasync.simulator.model.scripts import Script, Turn
from aimlasync.simulator.server import Simulator
from aimlasync.simulator.thread import serve_in_thread
from aimlasync.simulator.vendor.conversation import Call, Result
from aimlasync.simulator.vendor.request import SimRequest, Tool
from aimlasync.simulator.vendor.vendors import Problem

__all__ = [
    "Answer",
    "Attempt",
    "Call",
    "Fault",
    "Latency",
    "Ledger",
    "Problem",
    "Result",
    "Script",
    "SimRequest",
    "Simulator",
    "SlidingWindow",
    "Tool",
    "Turn",
    "serve_in_thread",
]
