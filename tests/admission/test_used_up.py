"""Claims about headers that say that a window is used up: they are believed until they contradict themselves."""

from __future__ import annotations

import pytest

from aimlasync.admission.used_up import UsedUp


def test_a_server_that_says_in_every_answer_that_nothing_is_left_is_not_believed_for_long() -> None:
    """A client with eight attempts at once sent eight a minute, for good."""
    said, answers, heeded = UsedUp(), 0, []
    for minute in range(6):
        for number in range(8):
            heeded.append(said.believes(70.0 * minute + number / 10, 60.0, answers))
            answers += 1
    assert all(heeded[:24])
    assert not any(heeded[24:])
    said.refused()
    assert said.believes(1000.0, 60.0, answers)


@pytest.mark.parametrize("size", [1, 8, 60])
def test_a_server_that_says_it_at_the_end_of_each_window_is_believed(size: int) -> None:
    said = UsedUp()
    assert all(said.believes(70.0 * minute, 60.0, size * (minute + 1) - 1) for minute in range(100))
