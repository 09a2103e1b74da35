"""Where a call may go, and in which way it asks there for a structured answer.

It has no I/O. It may import what lies below `client`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from aimlasync.config import Mode
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import AimlasyncError
from aimlasync.info import Info


# Structs: each call makes all of these, and msgspec fills them in C. The collector does not look at what can be in no
# cycle (gc=False): with thousands of calls in flight it costs as much as the rest of them.
class Target(msgspec.Struct, eq=False, gc=False):
    """An endpoint that can serve the call, and the bytes that it takes."""

    upstream: Upstream
    url: str
    body: bytes | None
    mode: Mode | None = None
    """How the body asks for a structured answer, None where it asks for none or in the user's own way."""


class AnswerModes(Protocol):
    """What a call knows of the ways in which it asks for a structured answer; see `answer_modes`."""

    fallen: int
    """Attempts that were refused for the way in which they asked."""

    def fall_back(self, targets: Sequence[Target], error: AimlasyncError, /) -> bool:
        """Return whether `error` refuses the way and another is left, in which the target asks from now on."""

    def learn(self, targets: Sequence[Target], info: Info, /) -> None:
        """Keep in which way the upstream of `info` answered that had refused another one."""
