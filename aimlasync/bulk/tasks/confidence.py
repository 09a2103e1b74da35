"""How sure a model was of a label, by the probabilities that it gave to the label's tokens.

Pure arithmetic. It is the model's own number; how often it is right at 0.9 is measured with a gold column. Imports
replies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from aimlasync.bulk.tasks.result import Reply
from aimlasync.chat.types import ChatCompletion, TokenLogprob
from aimlasync.responses.items import OutputMessage, OutputText


def confidence_of(reply: Reply, value: str) -> float | None:
    """Return the probability of the tokens that spell `value` in a JSON answer, None when the server gave none."""
    tokens = _tokens(reply)
    text = "".join(token.token for token in tokens)
    written = msgspec.json.encode(value).decode()
    begin = text.rfind(written)
    if begin < 0:
        return None
    # The quotes do not count, because the schema forces them; a token may have one beside a letter.
    begin, end = begin + 1, begin + len(written) - 1
    total = at = 0.0
    for token in tokens:
        after = at + len(token.token)
        if after > begin and at < end:
            total += token.logprob
        at = after
    # What was written had some probability: the server did not state it.
    return math.exp(min(total, 0.0)) if total > -math.inf else None


def _tokens(reply: Reply) -> Sequence[TokenLogprob]:
    if isinstance(reply, ChatCompletion):
        logprobs = reply.choices[0].logprobs if reply.choices else None
        return (logprobs.content or ()) if logprobs is not None else ()
    for item in reply.output:
        if isinstance(item, OutputMessage):
            for part in item.content:
                if isinstance(part, OutputText):
                    return part.logprobs or ()
    return ()
