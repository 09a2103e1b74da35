"""What was sent in the worst window of time, whenever it began."""

from __future__ import annotations


def worst(sent: list[tuple[float, float]], seconds: float = 60.0) -> float:
    """The largest sum in any stretch of so many seconds."""
    most = total = 0.0
    first = 0
    for when, amount in sent:
        total += amount
        while sent[first][0] <= when - seconds:
            total -= sent[first][1]
            first += 1
        most = max(most, total)
    return most
