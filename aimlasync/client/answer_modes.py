"""How one call asks for a structured answer at each upstream, and what is learned when one cannot be asked that way.

A body that asks for a JSON schema is sent in the surest way that the model has there: what the provider table or an
earlier refusal says, else `json_schema`. A refusal is followed by the next weaker way, at once; what was answered then
is kept at the upstream, by the name of the model. It may import `call`, `balancer` and what lies below `client`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Call
from aimlasync.client.target import Target
from aimlasync.config import Mode, Structured
from aimlasync.endpoints.providers import Api
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import AimlasyncError, UnsupportedRequestError
from aimlasync.info import Info
from aimlasync.structured.modes import MODES, asked_schema, is_refusal, rewritten, weaker


class AnswerModes:
    """The ways of one call. Mutable: how many of them were refused."""

    __slots__ = ("_api", "_balancer", "_body", "_fixed", "_info", "_validate", "fallen")

    def __init__(
        self,
        balancer: Balancer,
        api: Api,
        body: Mapping[str, Any],
        info: Info,
        structured: Structured,
        *,
        validate: bool,
    ) -> None:
        self._balancer = balancer
        self._api: Api = api
        self._body = body
        self._info = info
        self._validate = validate
        self._fixed: Mode | None = structured if structured in MODES else None
        self.fallen = 0
        """Attempts that were refused for the way in which they asked."""

    def begin(self, targets: Sequence[Target]) -> None:
        """Let each target ask in the surest way that is known there, or in the one that the user fixed."""
        for target in targets:
            self._ask(target, self._fixed or self._known(target.upstream))

    def fall_back(self, targets: Sequence[Target], error: AimlasyncError) -> bool:
        """Return whether `error` refuses the way and another is left; the target then asks in that."""
        if self._fixed is not None or error.info is None:
            return False
        for target in targets:
            mode = target.mode
            if target.upstream.endpoint.name != error.info.endpoint or mode is None or not is_refusal(error, mode):
                continue
            # Another call may have learned more since this one began.
            lower = max(weaker(mode) or "text", self._known(target.upstream), key=MODES.index)
            self._ask(target, lower)
            self.fallen += 1
            return True
        return False

    def learn(self, targets: Sequence[Target], info: Info) -> None:
        """Keep in which way the upstream answered that had refused another one.

        What is not answered in a weaker way either was refused for another reason, and teaches nothing.
        """
        for target in targets:
            if target.upstream.endpoint.name == info.endpoint and target.mode is not None:
                target.upstream.answer_modes[self._info.model] = target.mode

    def _known(self, upstream: Upstream) -> Mode:
        learned = upstream.answer_modes.get(self._info.model)
        if learned is not None:
            return learned
        model = upstream.endpoint.provider.models.get(self._info.model)
        return "json_schema" if model is None else model.structured

    def _ask(self, target: Target, mode: Mode) -> None:
        if mode != (target.mode or "json_schema"):
            body = rewritten(self._body, mode)
            fitted = self._balancer.targets(self._api, body, self._info, validate=self._validate)
            target.body = next((each.body for each in fitted if each.upstream is target.upstream), target.body)
        target.mode = mode


def answer_modes(
    balancer: Balancer,
    api: Api,
    body: Mapping[str, Any],
    call: Call,
    structured: Structured,
    *,
    validate: bool,
) -> AnswerModes | None:
    """Return the ways of a call, whose targets ask in the first of them; None for one that asks for no schema.

    Raises UnsupportedRequestError for a way that there is not.
    """
    if structured not in ("auto", *MODES):
        known = ", ".join(map(repr, ("auto", *MODES)))
        said = f"structured must be one of {known}, not {structured!r}"
        raise UnsupportedRequestError(said, status=400, param="structured", info=call.info, billed=False)
    if asked_schema(body) is None:
        return None
    modes = AnswerModes(balancer, api, body, call.info, structured, validate=validate)
    modes.begin(call.targets)
    return modes
