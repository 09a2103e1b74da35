"""How many tokens a request will take, guessed from its size before it is sent.

Law: pure arithmetic, no tokenizer, no I/O. The numbers are whatever the server reports and limits: some report credits
in the place of tokens, and then credits are what is learned.
The input is proportional to the bytes of the body, at a ratio that follows the answers; the output is what most recent
answers stayed under, or the request's own cap where that is lower.
The ratio is that of two averages, not the average of ratios: a limit counts sums, and a short body with a long prompt
(an image by its URL, an earlier response by its id) or a long one with a short prompt (an image by value) then moves
the estimates by its share of the sum, not by many times that.
"""

from __future__ import annotations

from collections import OrderedDict, deque

# English text is about four bytes a token.
_FIRST_RATIO = 0.25
_FIRST_OUTPUT = 256.0
# Weight of the newest answer once the first few are averaged: half of what is known is from the last five.
_WEIGHT = 1 / 8
_RECENT_OUTPUTS = 64
# Every so many answers the recent outputs are sorted; the first ones at once, while each of them changes much.
_SORT_EVERY = 8
# No count of tokens; one such report would spoil the estimates for long.
_MAX_TOKENS = 1e9


class _Learned:
    """What the answers of one model have taught."""

    __slots__ = ("bodies", "body", "output", "outputs", "prompt", "ratio", "recent")

    def __init__(self) -> None:
        # What `estimate` reads.
        self.ratio = _FIRST_RATIO
        self.output = _FIRST_OUTPUT
        # Moving averages of a body's bytes and its prompt's tokens, and how many were averaged, up to 1 / _WEIGHT.
        self.body = 0.0
        self.prompt = 0.0
        self.bodies = 0
        # The latest outputs, and how many there ever were.
        self.recent: deque[float] = deque(maxlen=_RECENT_OUTPUTS)
        self.outputs = 0


_NOTHING = _Learned()


class Estimator:
    """What a client has learned of each model's tokens; the models that answered last are remembered.

    All mutable state is one small record for each of at most `max_models` models.
    """

    __slots__ = ("_max_models", "_models")

    def __init__(self, *, max_models: int = 128) -> None:
        if max_models < 1:
            raise ValueError(f"max_models must be at least 1, not {max_models}")
        self._max_models = max_models
        self._models: OrderedDict[str, _Learned] = OrderedDict()

    def __len__(self) -> int:
        return len(self._models)

    def estimate(self, model: str, body_bytes: int, max_output: float | None = None, *, in_full: bool = False) -> float:
        """Return the tokens, input and output, that a request will probably take.

        `max_output` is its output cap over all choices; None, or what is no cap, leaves it to recent answers.
        `in_full` counts the cap even where answers stay below it.
        """
        learned = self._models.get(model, _NOTHING)
        if max_output is not None and max_output > 0 and (max_output < learned.output or in_full):
            return body_bytes * learned.ratio + min(max_output, _MAX_TOKENS)
        return body_bytes * learned.ratio + learned.output

    def learn(self, model: str, body_bytes: int, prompt_tokens: float | None, completion_tokens: float | None) -> None:
        """Note what an answer reported; a count that is missing, 0 or absurd teaches nothing."""
        learned = self._models.get(model)
        if learned is None:
            learned = self._models[model] = _Learned()
            if len(self._models) > self._max_models:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(model)
        if prompt_tokens is not None and 0 < prompt_tokens <= _MAX_TOKENS and body_bytes > 0:
            # A mean of the first answers, so that the first of them replaces the guess; a moving average afterwards.
            weight = _WEIGHT
            if learned.bodies < 1 / _WEIGHT:
                learned.bodies += 1
                weight = 1 / learned.bodies
            learned.body += (body_bytes - learned.body) * weight
            learned.prompt += (prompt_tokens - learned.prompt) * weight
            learned.ratio = learned.prompt / learned.body
        if completion_tokens is not None and 0 < completion_tokens <= _MAX_TOKENS:
            learned.recent.append(completion_tokens)
            learned.outputs += 1
            if learned.outputs < _SORT_EVERY or learned.outputs % _SORT_EVERY == 0:
                # The 80th percentile by nearest rank: the largest of the first four, then the 4th of 5, the 52nd of 64.
                recent = sorted(learned.recent)
                learned.output = max(1.0, recent[(4 * len(recent) - 1) // 5])
