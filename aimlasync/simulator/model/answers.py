"""Composes the answer to a request. The same request and seed always get the same answer.

The first of these rules that applies decides:

1. the `answer` hook of the simulator, when it returns an answer;
2. the simulator's `script`, when the request follows one (see `scripts`);
3. a text with ``[refuse]`` is refused;
4. tools are called that `tool_choice` demands or that the text names, with arguments that fit their schema (see
   `tools`);
5. a JSON schema is filled from tool results and from the text (see `fill_schema`); the value of an enum is the label
   that fits the text best (see `labels`);
6. ``json_object`` gets a small object;
7. tool results are repeated in a sentence;
8. a prompt such as "Route to: a / b / c. Input: ..." gets one of the labels;
9. anything else gets a sentence that quotes the text; ``[tokens:200]`` in the text asks for about 200 tokens.

Rules 1 and 2 are applied by the server, which passes their answer to `compose`. It may import everything else in this
package but `scripts`, and what a vendor is.
"""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

import msgspec

from aimlasync.simulator.model import labels, tools
from aimlasync.simulator.model.fill_schema import fill
from aimlasync.simulator.vendor import tokens
from aimlasync.simulator.vendor.conversation import Call, check_kinds
from aimlasync.simulator.vendor.request import SimRequest

_encode = msgspec.json.Encoder().encode

_LENGTH_MARKER = re.compile(r"\[tokens:(\d{1,6})\]")
_ROLE = re.compile(
    r"\byou (?:are|work for|answer for|speak for) (?:an?|the|our) "
    r"([\w -]{3,40}?)(?=[.,;:!\n]| (?:who|that|of|at|for|and)\b|\Z)",
    re.IGNORECASE,
)
_REFUSAL = "I'm sorry, but I can't help with that."
_SENTENCES = (
    "Simulated answer to “{quote}”: no model was called, and nothing was charged.",
    "This is the aimlasync simulator. You said “{quote}”, and a real model would now say something useful.",
    "Thanks for “{quote}”. I am the simulator, so take this sentence as a stand-in for an answer.",
)


_KINDS = {
    "text": str,
    "refusal": str | None,
    "calls": list,
    "finish_reason": str | None,
    "reasoning_tokens": int | None,
}


class Answer(msgspec.Struct, kw_only=True):
    """One answer of the model. A scripted answer may set any part of it. Raises TypeError for a wrong type."""

    text: str = ""
    refusal: str | None = None
    calls: list[Call] = msgspec.field(default_factory=list)
    finish_reason: str | None = None
    """None lets the simulator derive it: "tool_calls", "length" or "stop"."""
    reasoning_tokens: int | None = None
    """None lets the simulator derive it from the model and `reasoning_effort`."""
    completion_tokens: int = 0
    """Set by the simulator, reasoning included."""
    raw: Any = None
    """Sent in place of the rest: a JSON value or bytes as the body, a list as the events of a stream."""

    def __post_init__(self) -> None:
        check_kinds(self, _KINDS)
        if not all(isinstance(call, Call) for call in self.calls):
            raise TypeError(f"Answer(calls=...) takes a list of Call, not {self.calls!r}")
        try:
            _encode(self.raw)
        except (TypeError, ValueError) as error:
            raise TypeError(f"Answer(raw=...) takes bytes or a JSON value: {error}") from None


def compose(request: SimRequest, scripted: Answer | str | None, *, seed: int) -> list[Answer]:
    """Return one answer for each choice, truncated to the request's output cap, with its tokens counted."""
    if isinstance(scripted, str):
        scripted = Answer(text=scripted)
    if scripted is not None:
        answers = [msgspec.structs.replace(scripted) for _ in range(request.n)]
    else:
        answers = [_generate(request, seed + choice) for choice in range(request.n)]
    for answer in answers:
        settle(answer, request)
    return answers


def settle(answer: Answer, request: SimRequest) -> None:
    """Apply the output cap, which covers reasoning and text together, and count the tokens."""
    reasoning = answer.reasoning_tokens
    if reasoning is None:
        reasoning = _reasoning_tokens(request) if request.reasons else 0
    cap = request.max_tokens
    text = answer.text if answer.refusal is None else answer.refusal
    size = tokens.count(text) + sum(tokens.count(call.arguments) + 4 for call in answer.calls)
    finish_reason = "tool_calls" if answer.calls else "stop"
    if cap is not None and reasoning + size > cap:
        # Reasoning is shortened first, so that an answer with a small cap still has some text.
        reasoning = min(reasoning, max(cap // 2, cap - size))
        if size > cap - reasoning and not answer.calls and answer.refusal is None:
            answer.text = tokens.cut(answer.text, cap - reasoning)
            size = tokens.count(answer.text)
            finish_reason = "length"
    answer.reasoning_tokens = reasoning
    answer.completion_tokens = reasoning + size
    answer.finish_reason = answer.finish_reason or finish_reason


def _reasoning_tokens(request: SimRequest) -> int:
    options = request.body.get("reasoning")
    effort = options.get("effort") if isinstance(options, dict) else request.body.get("reasoning_effort")
    return {"none": 0, "minimal": 0, "low": 16, "high": 192}.get(effort if isinstance(effort, str) else "", 64)


def _generate(request: SimRequest, seed: int) -> Answer:
    text = request.text
    if "[refuse]" in text:
        return Answer(refusal=_REFUSAL)
    calls = tools.choose_calls(request, seed)
    if calls:
        return Answer(calls=calls)
    if request.schema is not None:
        known = tools.named_values(request.results)
        filled = fill(request.schema, text, hints=request.instructions, seed=seed, known=known)
        if request.among_words:
            return Answer(text=f"Here it is:\n\n```json\n{_json(filled)}\n```\n\nIs there anything else?")
        return Answer(text=_json(filled))
    label = None if request.results else labels.routed_label(request.instructions, text)
    if request.json_object:
        return Answer(text=_json({"label": label} if label else {"answer": _sentence(request, seed)}))
    return Answer(text=label or _sentence(request, seed))


def _sentence(request: SimRequest, seed: int) -> str:
    if request.results:
        return tools.summary(request.results)
    text = request.text
    long = _LENGTH_MARKER.search(text)
    if long:
        wanted = int(long[1])
        words = text.replace(long[0], "").split() or ["simulated"]
        filled = " ".join(words)
        return tokens.cut(" ".join([filled] * (wanted * 4 // (len(filled) + 1) + 1)), wanted)
    role = _ROLE.search(request.instructions)
    if role:
        return f"This is the simulated {role[1]}, about “{_quote(text)}”: a real model would now say something useful."
    choice = (crc32(text.encode("utf-8", "surrogatepass")) + seed) % len(_SENTENCES)
    return _SENTENCES[choice].format(quote=_quote(text))


def _quote(text: str) -> str:
    words = text[:200].split()
    quoted = " ".join(words[:8])[:80]
    return f"{quoted}…" if len(words) > 8 or len(text) > 200 else quoted


def _json(value: object) -> str:
    return _encode(value).decode()
