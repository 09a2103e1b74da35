"""Scripted answers: a test writes the model's turns of a conversation beforehand.

No state is kept between requests. The number of the turn is the number of assistant turns in the request, so any number
of conversations may follow the same script at the same time. Pure functions; it may import `answers` and what a vendor
is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy

from aimlasync.simulator.model.answers import Answer
from aimlasync.simulator.vendor.conversation import Call
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.vendors import Problem

Turn = Answer | Call | Problem | str
"""One turn: a whole answer, one call, an error, or a text."""

Script = Sequence[Turn]
"""The turns in order; the last one is repeated."""


def checked(scripts: Script | Mapping[str, Script]) -> Script | Mapping[str, Script]:
    """Return `scripts` as they are.

    Raises ValueError for a script without turns, TypeError for a script that is no list of turns.
    """
    for name, turns in scripts.items() if isinstance(scripts, Mapping) else (("", scripts),):
        label = f"script {name!r}" if name else "a script"
        if isinstance(turns, (str, bytes)) or not isinstance(turns, Sequence):
            raise TypeError(f"{label} must be a list of turns, not {type(turns).__name__}")
        if not turns:
            raise ValueError(f"{label} has no turns")
        for turn in turns:
            if not isinstance(turn, Turn):
                raise TypeError(f"{label}: a turn is an Answer, Call, Problem or text, not {type(turn).__name__}")
    return scripts


def named(scripts: Script | Mapping[str, Script], request: SimRequest) -> str:
    """Return the name of the script that a request follows: `X-Script`, `metadata.script`, or its model; "" for none.

    Raises Problem(400) when the request names a script that does not exist.
    """
    if not isinstance(scripts, Mapping):
        return ""
    metadata = request.body.get("metadata")
    wanted = request.headers.get("X-Script") or (metadata.get("script") if isinstance(metadata, dict) else None)
    if wanted is None:
        return request.model if request.model in scripts else ""
    name = str(wanted)
    if name not in scripts:
        raise Problem(400, f"no script {name!r}; known: {', '.join(scripts)}", code="invalid_param", param="script")
    return name


def turn(
    scripts: Script | Mapping[str, Script], name: str, number: int, problems_given: Callable[[], int]
) -> Answer | str | None:
    """Return the answer of a turn in the script of that name, None without a script.

    Problems before an answer are raised first, one for each request of the same conversation; `problems_given` counts
    a request and returns how many there were before it. Raises Problem when the turn is one.
    """
    turns = (scripts[name] if name else ()) if isinstance(scripts, Mapping) else scripts
    if not turns:
        return None
    places = [place for place, each in enumerate(turns) if not isinstance(each, Problem)]
    begin = places[min(number, len(places)) - 1] + 1 if number and places else 0
    if number < len(places):
        found, problems = turns[places[number]], turns[begin : places[number]]
    else:
        # The last one is repeated.
        found, problems = turns[-1], turns[begin:-1]
    given = problems_given() if problems else 0
    if given < len(problems):
        found = problems[given]
    return answered(found)


def answered(turn: Turn | None) -> Answer | str | None:
    """Return a turn as an answer. Raises Problem when it is one, or is no turn, as a test's `answer` may return."""
    if isinstance(turn, Problem):
        # A copy, because an exception keeps the traceback of each raise.
        raise copy(turn)
    if isinstance(turn, Call):
        return Answer(calls=[turn])
    if not (turn is None or isinstance(turn, Turn)):
        raise Problem(500, f"a turn is an Answer, Call, Problem or text, and answer= returned a {type(turn).__name__}")
    return turn
