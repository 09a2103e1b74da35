from __future__ import annotations

import re
from itertools import pairwise

import pytest

from aimlasync.bulk.report.charts import histogram

# The width of a label in percent of a chart of 300 pixels.
WIDE = 25.0
BINS = [(0.01 * 10 ** (at / 20), 0.01 * 10 ** ((at + 1) / 20), 1) for at in range(100)]


@pytest.mark.parametrize(
    "seconds",
    [
        (0.02, 0.03, 0.05),
        (0.02, 0.05, 900.0),
        (0.02, 500.0, 900.0),
        (0.02, 1.0, 100.0),
        (0.02, 3.0, 90.0),
        (300.0, 500.0, 900.0),
        (5.0, 500.0, 900.0),
        (0.02,),
        (900.0,),
    ],
)
def test_no_label_of_a_mark_is_cut_or_crossed(seconds: tuple[float, ...]) -> None:
    drawn = histogram(BINS, marks=[(f"p{at}", value) for at, value in enumerate(seconds)], label="times")
    lines = [
        (float(x), float(y1), float(y2))
        for x, y1, y2 in re.findall(
            r'<line class="quantile" x1="([\d.]+)%" x2="[\d.]+%" y1="([\d.]+)" y2="([\d.]+)"', drawn
        )
    ]
    labels = re.findall(r'<text class="mark" x="([\d.]+)%" dx="-?\d+" y="([\d.]+)" text-anchor="(\w+)"', drawn)
    assert len(lines) == len(labels) == len(seconds)
    for at, y, side in labels:
        x, row = float(at), float(y)
        left, right = (x, x + WIDE) if side == "start" else (x - WIDE, x)
        assert left >= 0
        assert right <= 100
        assert not [line for line in lines if left < line[0] < right and line[1] < row < line[2]]
    rows = sorted(float(y) for _, y, _ in labels)
    assert all(after - before >= 16 for before, after in pairwise(rows))
    # The number at the top of the axis is below them, where a label may reach over it.
    axis = min(float(y) for y in re.findall(r'<text class="tick" x="0.00%" dx="-8" y="([\d.]+)"', drawn))
    assert axis - rows[-1] >= 16
