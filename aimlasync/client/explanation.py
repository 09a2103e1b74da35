"""One sentence on where the time of a call went.

It reads what the pipeline noted in `info.steps` and `info.timing`, and knows nothing of a client's present state. It
may import `errors` and `info`.
"""

from __future__ import annotations

from aimlasync.errors import AimlasyncError, in_one_line
from aimlasync.info import Info, Step

# Steps shorter than this, in seconds, explain nothing.
_SHORT = 0.001
# Characters of a sentence.
_LONGEST = 3_000


def explain(of: object) -> str:
    """Say where the time of a call went; `of` is its info or error, or anything else with an `.info`.

    Raises TypeError for anything else.
    """
    error = of if isinstance(of, AimlasyncError) else None
    info = of if isinstance(of, Info) else getattr(of, "info", of)
    if info is None and error is not None:
        return f"nothing was sent: {in_one_line(error)}"
    if not isinstance(info, Info):
        raise TypeError(f"an info, an error, a reply or a stream is explained, not a {type(of).__name__}")
    steps = [step for step in info.steps if step.kind == "attempt" or step.seconds >= _SHORT]
    parts = [_said(step, steps[:number]) for number, step in enumerate(steps)]
    spent, total = sum(step.seconds for step in steps), info.timing.total
    if info.attempts == 0:
        parts.append("nothing was sent")
    elif info.attempts > sum(step.kind == "attempt" for step in steps):
        parts.append(_last(info, None if total is None else max(0.0, total - spent), error))
    took = f"{info.model or 'the call'} took {_seconds(spent if total is None else total)}"
    # The name of a model may be a stranger's.
    return in_one_line(f"{took}{' so far' if total is None and error is None else ''}: {'; '.join(parts)}", _LONGEST)


def ids_of(info: Info) -> str:
    """Return where a call went last and its ids, as words of a line of a log; what is unknown is left out."""
    known = {
        "vendor": info.vendor,
        "endpoint": info.endpoint,
        "status": info.status,
        "attempts": info.attempts,
        "request_id": info.request_id,
        "inference_id": info.inference_id,
        "server_request_id": info.server_request_id,
    }
    # Servers choose some of them, and none may look like another.
    words = {name: in_one_line(value, 128).replace(" ", "_") for name, value in known.items() if value is not None}
    return " ".join(f"{name}={word}" for name, word in words.items() if word)


def _said(step: Step, before: list[Step]) -> str:
    took = _seconds(step.seconds)
    match step.kind:
        case "attempt":
            why = "in the same way" if any(step.why == other.why for other in before) else f"with {step.why}"
            return f"{took} in an attempt at {step.endpoint} that failed {why}"
        case "backoff":
            return f"retried because of that after {took}"
    behind = f", queued behind {step.ahead} other{'s' if step.ahead != 1 else ''}" if step.ahead else ""
    return f"{took} waiting for {step.why}{behind}"


def _last(info: Info, seconds: float | None, error: AimlasyncError | None) -> str:
    """Say how the attempt went that no step is about: it was answered, it goes on, or its stream was cut."""
    took = "an attempt" if seconds is None else f"{_seconds(seconds)} in the attempt"
    facts = [f"HTTP {info.status}"] if info.status is not None else []
    if info.timing.first_byte is not None:
        facts.append(f"its response began after {_seconds(info.timing.first_byte)}")
    end = "" if error is None else f" that ended with {type(error).__name__}"
    said = f" ({', '.join(facts)})" if facts else ""
    return f"{took} at {info.endpoint}{said}{end}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
