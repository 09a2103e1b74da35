"""What the simulated model answers: the same for the same request and seed, and fit for what was asked.

Law: pure functions of a `SimRequest`; no I/O, no clock.
The first rule that applies decides:

1. the `answer` hook of the simulator, when it returns something;
2. its `script`, when the request follows one (see `scripts`);
3. text with ``[refuse]`` is refused;
4. tools that must be called, or that the text names, are called with arguments that fit their schema (see `tools`);
5. a JSON schema is filled, from what tools said and from the text; an enum of labels is answered by what the text says
   (see `labels`);
6. ``json_object`` gets a small object;
7. what tools said is told;
8. "Route to: a / b / c. Input: ..." gets one of the labels;
9. anything else gets a sentence that quotes the text; ``[tokens:200]`` in the text asks for about that many tokens.
"""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

import msgspec

from aimlasync.simulator.model import fill_schema as schema
from aimlasync.simulator.model import labels, tools
from aimlasync.simulator.vendor import tokens
from aimlasync.simulator.vendor.conversation import Call
from aimlasync.simulator.vendor.request import SimRequest

_encode = msgspec.json.Encoder().encode

_LONG = re.compile(r"\[tokens:(\d{1,6})\]")
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


class Answer(msgspec.Struct, kw_only=True):
    """What the model says. A scripted answer may set any part of it."""

    text: str = ""
    refusal: str | None = None
    calls: list[Call] = msgspec.field(default_factory=list)
    finish_reason: str | None = None
    """None is derived: "tool_calls", "length" or "stop"."""
    reasoning_tokens: int | None = None
    """None is derived from the model and `reasoning_effort`."""
    completion_tokens: int = 0
    """Counted by the simulator, reasoning included."""
    raw: Any = None
    """Sent in place of all this: a JSON value or bytes as the body, a list as the events of a stream."""


def compose(request: SimRequest, scripted: Answer | str | None, *, seed: int) -> list[Answer]:
    """Return one answer per choice, cut to the request's cap and counted."""
    if isinstance(scripted, str):
        scripted = Answer(text=scripted)
    if scripted is not None:
        answers = [msgspec.structs.replace(scripted) for _ in range(request.n)]
    else:
        answers = [_generate(request, seed + choice) for choice in range(request.n)]
    for answer in answers:
        _settle(answer, request)
    return answers


def _settle(answer: Answer, request: SimRequest) -> None:
    """Apply the cap, which covers thought and text alike, and count."""
    thought = answer.reasoning_tokens
    if thought is None:
        thought = _effort(request) if request.reasons else 0
    cap = request.max_tokens
    said = answer.text if answer.refusal is None else answer.refusal
    size = tokens.count(said) + sum(tokens.count(call.arguments) + 4 for call in answer.calls)
    reason = "tool_calls" if answer.calls else "stop"
    if cap is not None and thought + size > cap:
        # Thought gives way first, so that a short cap still shows some text.
        thought = min(thought, max(cap // 2, cap - size))
        if size > cap - thought and not answer.calls and answer.refusal is None:
            answer.text = tokens.cut(answer.text, cap - thought)
            size = tokens.count(answer.text)
            reason = "length"
    answer.reasoning_tokens = thought
    answer.completion_tokens = thought + size
    answer.finish_reason = answer.finish_reason or reason


def _effort(request: SimRequest) -> int:
    options = request.body.get("reasoning")
    effort = options.get("effort") if isinstance(options, dict) else request.body.get("reasoning_effort")
    return {"none": 0, "minimal": 0, "low": 16, "high": 192}.get(effort if isinstance(effort, str) else "", 64)


def _generate(request: SimRequest, seed: int) -> Answer:
    text = request.text
    if "[refuse]" in text:
        return Answer(refusal=_REFUSAL)
    calls = tools.calls(request, seed)
    if calls:
        return Answer(calls=calls)
    if request.schema is not None:
        known = tools.values(request.results)
        filled = schema.fill(request.schema, text, hints=request.instructions, seed=seed, known=known)
        return Answer(text=_json(filled))
    label = None if request.results else labels.routed(request.instructions, text)
    if request.json_object:
        return Answer(text=_json({"label": label} if label else {"answer": _sentence(request, seed)}))
    return Answer(text=label or _sentence(request, seed))


def _sentence(request: SimRequest, seed: int) -> str:
    if request.results:
        return tools.told(request.results)
    text = request.text
    long = _LONG.search(text)
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
