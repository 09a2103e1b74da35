"""What an error response says by its status and its words: the signals of `admission.outcome`.

The tables of words are those of servers that were seen. It is loaded with the first failure.
It may import `outcome` and `wire.error_bodies`.
"""

from __future__ import annotations

import re

from aimlasync.admission.outcome import NOTHING, SPENT, Outcome, Refused, Signal
from aimlasync.wire.error_bodies import is_spent, is_too_large

# Codes and words, in lower case. "concurrent" and "in parallel" are said of attempts at once; "per minute", RPM and TPM
# of a rate.
_CONCURRENCY = re.compile(
    r"concurren|in parallel|parallel requests|simultaneous|requests in flight|too many connections|并发"
)
_RATE = re.compile(
    r"\bper[ _-](second|sec|minute|min|hour|day)\b|\b[rt]p[smhd]\b"
    r"|(requests?|calls|queries|tokens) ?/ ?(s|sec|second|min|minute|h|hour|day)\b|rate_limit_(requests|tokens)"
    r"|\b(requests?|calls?|tokens?) rate limit|too many tokens|频率|每分钟|每秒|速率"
)
_TOKENS = re.compile(
    r"\btokens? ?(per|/)[ _-]?(s|m|h|d)|\btp[mhd]\b|\btokens? rate limit|too many tokens|rate_limit_tokens"
)
_OVERLOAD = re.compile(
    r"overload|at capacity|capacity_exceeded|too many requests|too_many_requests|rate.?limit|throttl|\bbusy\b"
    r"|\bno (free |idle )?slots?\b|\bqueue (is |was )?full\b|\bfull queue\b|\bqueue size\b|\bpending requests\b"
    r"|负载|过载|繁忙|限流"
)
# A server that has started, and whose model is not there yet: llama.cpp, Hugging Face, Triton. There is nothing that
# could be limited.
_LOADING = re.compile(
    r"\bloading\b.{0,40}\bmodel\b|\bmodel\b.{0,200}\b(loading|not ready|starting|warming)\b|\bwarming up\b"
)
# A gateway that has no server behind it (Envoy, HAProxy, Varnish, One API, New API): it says nothing of limits.
_AWAY = re.compile(
    r"no healthy upstream|upstream connect error(?!.*overflow)|no server is available"
    r"|backend fetch failed|connection refused|无可用渠道|no available channel"
)
# Mistral, Together and Ark limit each model, and name it so.
_THIS_MODEL = re.compile(r"\b(this|the associated) model\b")
# Not in an address: servers add that of a page on rate limits.
_ACCOUNT = re.compile(r"(?<![/.\w-])(organi[sz]ation|account|workspace|project|team|api key|all models)(?![/\w-])")
# What a name has behind it that a server leaves out where it speaks of all versions: -2025-08-07, -20250807, -latest.
_VERSION = re.compile(r"-(latest|\d{4}-?\d{2}-?\d{2})\Z")


def read_status(status: int, words: str, model: str) -> Signal:
    """Return what an error response says; `words` are its message, code and type, `model` is what was asked for."""
    if status < 429 or (430 <= status < 500):
        return SPENT if status in (401, 402) or (status == 403 and is_spent(words)) else NOTHING
    words = words.lower()
    if status not in (429, 503, 529) and not _OVERLOAD.search(words):
        return NOTHING
    if is_spent(words):
        return SPENT
    if is_too_large(words):
        return NOTHING
    if status == 503 and _AWAY.search(words):
        return Signal(Outcome.DROPPED, "down", "model")
    if status == 503 and _LOADING.search(words):
        return Signal(Outcome.DROPPED, "down", "model")
    kind: Refused | None = "concurrency" if _CONCURRENCY.search(words) else "rate" if _RATE.search(words) else None
    if kind == "rate" and _TOKENS.search(words):
        kind = "tokens"
    if _THIS_MODEL.search(words) or (model and _is_named(model.lower().rpartition("/")[2], words)):
        return Signal(Outcome.DROPPED, kind, "model")
    return Signal(Outcome.DROPPED, kind, "account" if _ACCOUNT.search(words) else "unknown")


def _is_named(model: str, words: str) -> bool:
    """Whether the words have the name of a model, with or without its version, and not as a part of another word."""
    name = _VERSION.sub("", model)
    return bool(name) and re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", words) is not None
