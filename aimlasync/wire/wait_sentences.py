"""Waits that servers state in sentences, such as "try again in 1.2s", in English and Chinese.

Pure functions; `now` is called only where a time of day is named. It may import `waits`.
"""

from __future__ import annotations

import re
import time

from aimlasync.wire.waits import FURTHEST, UNITS, Clock, until

# How far into a message a sentence about a wait is looked for.
_LONGEST_MESSAGE = 4_000
_UNIT = r"(?:ms|msecs?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
_AMOUNT = rf"\d{{1,9}}(?:\.\d{{1,9}})?\s?{_UNIT}(?![a-z])"
_SENTENCE = re.compile(
    # What a wait follows. A time that was waited ("timed out after waiting 60 s") is none.
    r"(?:\b(?:re-?)?try(?:ing)?\b[^\d.;\n]{0,40}?\b(?:in|after|at|again)\b|\bretry[-_]after\b|\bwait\b(?!\s+of\b)"
    r"|\b(?:available|resets?)\b[^\d.;\n]{0,20}?\b(?:in|after|at)\b|将[在于](?=\s*\d{4}-))"
    rf"(?:[^\d.;\n]{{0,16}}?(?P<span>{_AMOUNT}(?:(?:\s|,|and)*{_AMOUNT})*)"
    r"|(?:\s*\(s(?:ec(?:ond)?s?)?\))?(?:\s*[:=]|\s+(?:in|after|at|for)\b)?\s*(?:"
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?P<zone>\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"
    r"|(?P<seconds>\d{1,9}(?:\.\d{1,9})?)(?![\d:/%-]|\.\d)(?!\s*[a-z])))"
    r"|(?P<chinese>\d{1,6})\s*(?P<measure>秒|分钟|小时)(?:钟)?(?:后|之后|再)",
    re.IGNORECASE,
)
_ONE_OF = re.compile(rf"(\d+(?:\.\d+)?)\s?({_UNIT})(?![a-z])", re.IGNORECASE)
# Who names no zone is Chinese, in English too: Zhipu, Z.ai.
_BEIJING = "+08:00"
_MEASURES = {"秒": 1.0, "分钟": 60.0, "小时": 3600.0}


def in_words(message: str, now: Clock = time.time) -> float | None:
    """Return the wait that a message asks for, None where it names none: "Please try again in 1m30s."."""
    found = _SENTENCE.search(message[:_LONGEST_MESSAGE])
    if found is None:
        return None
    if found["span"]:
        parts = _ONE_OF.findall(found["span"])
        wait = sum(float(number) * UNITS[_unit(name.lower())] for number, name in parts)
    elif found["time"]:
        zone = (found["zone"] or _BEIJING).strip()
        return until(found["time"] + (zone if zone[0] in "+-" else "+00:00"), now)
    elif found["chinese"]:
        wait = float(found["chinese"]) * _MEASURES[found["measure"]]
    else:
        wait = float(found["seconds"])
    return wait if 0 < wait <= FURTHEST else None


def _unit(name: str) -> str:
    return "ms" if name == "ms" or name.startswith(("msec", "milli")) else name[0]
