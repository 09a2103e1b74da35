"""What the end of an attempt says about the server's capacity: whether it refused, what it limits, and for whom.

    the attempt ended with                         outcome   limit        counts for   the circuit breaker
    -------------------------------------------------------------------------------------------------------------
    an answer                                      OK        -            the model    success
    429, no word of what is limited                DROPPED   unknown      the model    success: the server works
    429 or 503 that names requests a minute        DROPPED   rate         the model    success, failure for a 503
    429 or 503 that names tokens a minute          DROPPED   tokens       the model    the same
    429 or 503 that names attempts at once         DROPPED   concurrency  the model    the same
    503, 529, or 5xx with words of overload        DROPPED   unknown      the model    failure of the model
    400, 403 or 200, and a code of these           DROPPED   as above     the model    success
    an error in a stream that says one of these    DROPPED   as above     the model    success
    503: the model is loading, or a gateway's only DROPPED   down         the model    failure of the model
    the same, while the model's circuit is open    OUTAGE    -            the model    failure of the model
    any of these that names the account            DROPPED   as above     the account  as above
    429, 400 or 403: no money or quota; 401, 402   IGNORED   -            the account  success (balancer: retired)
    no connection, or one that broke               DROPPED   down         the endpoint failure of the endpoint
    the same, while the endpoint's circuit is open OUTAGE    -            the endpoint failure of the endpoint
    a stream that was cut                          DROPPED   down         the model    failure of the model
    a bound of ours passed                         LATE      concurrency  the model    failure of the model
    the same, sooner than others were answered     LATE      -            the model    nothing
    a stream that stood still (idle)               IGNORED   -            the model    failure of the model
    no connection within a bound of ours           IGNORED   -            the endpoint failure of the endpoint
    no file left here for a connection             IGNORED   -            -            nothing
    another 5xx                                    IGNORED   -            the model    failure of the model
    501, a 5xx that says that this is unsupported  IGNORED   -            the model    success: the server works
    a request larger than the limit itself         IGNORED   -            the model    success: the server works
    another 4xx, an answer that makes no sense     IGNORED   -            the model    success: the server works
    the caller left                                CANCELLED -            the model    nothing

A refusal DROPPED is what limits are learned from. A wait that it states (Retry-After) pauses the endpoint; it pauses
the model alone where the refusal names the model, and where another one was answered since the model was first refused.
The words are read in `refusal_words`.
It imports nothing of this library.
"""

from __future__ import annotations

import enum
from typing import Literal, NamedTuple

Refused = Literal["concurrency", "rate", "tokens", "down"]
"""What a server limits, as far as it says so: "tokens" is a rate of them, "down" that there was no server to say it."""


class Outcome(enum.Enum):
    """What an attempt says about the server's capacity."""

    OK = enum.auto()
    """A good answer."""
    DROPPED = enum.auto()
    """The server refused for lack of capacity."""
    OUTAGE = enum.auto()
    """The server is gone or out of order, which says nothing about its limits."""
    LATE = enum.auto()
    """A bound of ours passed before the answer: a server that queues does not refuse."""
    IGNORED = enum.auto()
    """It says nothing about capacity: a bad request, say."""
    CANCELLED = enum.auto()
    """Nor does this: nobody waits for the answer any more."""


OK, IGNORED, CANCELLED = Outcome.OK, Outcome.IGNORED, Outcome.CANCELLED
"""What every call asks for: before Python 3.12, `Outcome.OK` calls a function."""


class Signal(NamedTuple):
    """What the failure of an attempt says; see the table of the module."""

    outcome: Outcome
    kind: Refused | None = None
    """The limit that the server named, None where it named none."""
    scope: Literal["model", "account", "unknown"] = "unknown"
    """Whom the refusal names; a refusal that names nobody counts for its model, and a wait that it states for all."""


NOTHING = Signal(Outcome.IGNORED)
LATE = Signal(Outcome.LATE)
GONE = Signal(Outcome.DROPPED, "down")
"""There was no connection, or it broke: a server that is gone is no server that counts requests."""
SPENT = Signal(Outcome.IGNORED, None, "account")
