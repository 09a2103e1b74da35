"""A store of answers in this process.

It imports nothing of the library.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Memory:
    """Keeps its values in a dict."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, keys: Any, /) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        return [self.values.get(key) for key in keys]

    async def put(self, key: str, value: bytes, /) -> None:
        """Keep a value, a turn of the loop later."""
        await asyncio.sleep(0)
        self.values[key] = value

    async def close(self) -> None:
        """Nothing is to be closed."""
