"""A simulated vendor on loopback, to try the library without a key, test code, and measure load.

It is a real HTTP server that behaves as the AI/ML API, ByteSpike, or an OpenAI-compatible server document themselves.
It may import aiohttp, msgspec, and of the package `config`, `endpoints.providers` and `structured.modes`:

    async with Simulator(requests_per_minute=600, faults=[Fault("status", status=503, probability=0.01)]) as sim:
        ...                                     # any client, base_url=sim.base_url, any key
        print(sim.ledger.by_status(), sim.ledger.worst_window())

A script, which has the model's turns in order, tests an agent loop:

    Simulator(script=[Answer(calls=[Call.of("get_weather", city="Rome"), Call("get_time", "{broken")]), "It is sunny."])

    vendor/    paths, models, errors, and how a request is read
    model/     what the simulated model answers
    wire/      how an answer looks on the wire
    faults     which fault happens to which request
    latency    how long the model takes
    ledger     the requests that were received
    limits     rate limits, concurrency and balance of the simulated account
    state      what all requests to one simulator share
    exchange   one request and its response
    lookups    requests that call no model: catalogue, balance, health
    server     `Simulator`: the socket, routes and keys
    thread     `serve_in_thread`: a simulator in a thread of its own
    stand_in   `stand_in`: the simulator answers where no key is set
"""

from aimlasync.simulator.faults import Fault
from aimlasync.simulator.latency import Latency
from aimlasync.simulator.ledger import Attempt, Ledger
from aimlasync.simulator.limits import SlidingWindow
from aimlasync.simulator.model.answers import Answer
from aimlasync.simulator.model.scripts import Script, Turn
from aimlasync.simulator.server import Simulator
from aimlasync.simulator.stand_in import stand_in
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
    "stand_in",
]
