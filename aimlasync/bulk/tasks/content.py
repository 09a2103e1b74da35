"""What of a row decides its answer, as a short digest: by it a row is known again when its table has changed.

Pure. Imports the rows of an input and `prompt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.tasks.prompt import as_text

_encode = msgspec.json.Encoder(order="deterministic").encode


def content_of(row: Row, columns: Sequence[str]) -> str:
    """Return the digest of a row's values in `columns`; the order of members within a value does not count."""
    values = [row.fields.get(column) for column in columns]
    said = _encode([value if isinstance(value, (dict, list)) else as_text(value) for value in values])
    return blake2b(said, digest_size=12).hexdigest()
