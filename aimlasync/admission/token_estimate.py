"""How many tokens a request will take, guessed from its size before it is sent.

It is arithmetic without a tokenizer and without I/O, and imports `cost.tokens` alone. The estimate of the input is
the size of the body times a ratio that is learned from answers. The estimate of the output is the 80th percentile of
recent outputs, or the request's own cap where that is lower. The units are those that the server reports and limits:
some servers report credits instead of tokens. The ratio is the quotient of two moving averages, not the average of
quotients, because a rate limit counts sums. A short body with a long prompt (an image by its URL) or a long body with a
short prompt (an image by value) then moves the estimate by its share of the sum alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from aimlasync.cost.tokens import MAX_TOKENS

# English text is about four bytes a token.
_FIRST_RATIO = 0.25
_FIRST_OUTPUT = 256.0
# Weight of the newest answer in the moving averages: the last five answers make half of them.
_WEIGHT = 1 / 8
_FULL = 8
_RECENT_OUTPUTS = 64
# The percentile is computed anew after so many answers, and after each of the first ones.
_SORT_EVERY = 8


class _Learned:
    """What the answers of one model taught."""

    __slots__ = ("bodies", "body", "output", "outputs", "prompt", "ratio", "recent")

    def __init__(self) -> None:
        # What `estimate` reads.
        self.ratio = _FIRST_RATIO
        self.output = _FIRST_OUTPUT
        # Moving averages of the bytes of a body and of the tokens of its prompt; and how many answers are in them, up
        # to `_FULL`.
        self.body = 0.0
        self.prompt = 0.0
        self.bodies = 0
        # The latest outputs in tokens, and how many outputs there were in all.
        self.recent: deque[float] = deque(maxlen=_RECENT_OUTPUTS)
        self.outputs = 0


_NOTHING = _Learned()


class Estimator:
    """What was learned of the tokens of each model.

    The mutable state is one small record for each of the `max_models` models that answered last.
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
        """Return the tokens, input and output together, that a request will probably take.

        `max_output` is the request's output cap over all choices; with None, or a cap below 1, recent outputs are used.
        `in_full` counts the whole cap even where recent outputs are lower.
        """
        learned = self._models.get(model, _NOTHING)
        if max_output is not None and max_output > 0 and (max_output < learned.output or in_full):
            return body_bytes * learned.ratio + min(max_output, MAX_TOKENS)
        return body_bytes * learned.ratio + learned.output

    def learn(self, model: str, body_bytes: int, prompt_tokens: float | None, completion_tokens: float | None) -> None:
        """Learn from the counts that an answer reported; a count that is missing, 0 or absurdly large is ignored."""
        learned = self._models.get(model)
        if learned is None:
            learned = self._models[model] = _Learned()
            if len(self._models) > self._max_models:
                self._models.popitem(last=False)
        elif len(self._models) > 1:
            self._models.move_to_end(model)
        if prompt_tokens is not None and 0 < prompt_tokens <= MAX_TOKENS and body_bytes > 0:
            # A plain mean at first, so that the first answer replaces the guess; a moving average afterwards.
            weight = _WEIGHT
            if learned.bodies < _FULL:
                learned.bodies += 1
                weight = 1 / learned.bodies
            learned.body += (body_bytes - learned.body) * weight
            learned.prompt += (prompt_tokens - learned.prompt) * weight
            learned.ratio = learned.prompt / learned.body
        if completion_tokens is not None and 0 < completion_tokens <= MAX_TOKENS:
            learned.recent.append(completion_tokens)
            learned.outputs += 1
            if learned.outputs < _SORT_EVERY or learned.outputs % _SORT_EVERY == 0:
                # The 80th percentile by nearest rank: the largest of the first four, then the 4th of 5, the 52nd of 64.
                recent = sorted(learned.recent)
                learned.output = max(1.0, recent[(4 * len(recent) - 1) // 5])
