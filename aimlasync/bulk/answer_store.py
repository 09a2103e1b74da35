"""The keys of rows in a store of answers: what decides the answer of a row, how it is judged, and by whom.

A row is computed again when its machine died or an engine repeats its block; with a store it is not paid for again. The
stores are in `aimlasync.store`. It may import them, requests and records.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from aimlasync.bulk.journal.record import Facts, Record, decode_record
from aimlasync.bulk.tasks.request import Request
from aimlasync.store import DirectoryStore, Store
from aimlasync.wire.canonical_json import canonical

__all__ = ["DirectoryStore", "Store", "key_of", "record_for", "scope_of"]


def scope_of(task: Mapping[str, Any], base_url: str) -> bytes:
    """Return what all rows of a task have in common in their keys: how it is asked and judged, and by whom."""
    return blake2b(canonical((task, base_url)), digest_size=16).digest()


def key_of(scope: bytes, request: Request) -> str:
    """Return the key of a request: 32 hexadecimal digits, the same in every process."""
    digest = blake2b(scope, digest_size=16)
    digest.update(canonical((request.api, request.body)))
    return digest.hexdigest()


def record_for(value: bytes, request: Request) -> Record | None:
    """Return the stored record as one of this request, None for what is no record."""
    try:
        record = decode_record(value)
    except msgspec.DecodeError:
        return None
    if record.custom_id != request.custom_id:
        # The call was made for another row, and its usage is counted there.
        facts = record.info or Facts()
        record.info = Facts(
            at=facts.at,
            attempts=0,
            model=facts.model,
            label=facts.label,
            confidence=facts.confidence,
            shared_with=record.custom_id,
        )
        record.custom_id = request.custom_id
    return record
