"""The queue of waiting calls: interactive before bulk, tenants in turn.

It decides the order alone; `limiter` decides who is admitted and when. It may import `config`. One of every eight
turns is bulk's while both wait. Within a priority tenants take turns, and within a tenant calls are served first come,
first served; calls without a tenant are one tenant together.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from aimlasync.config import Priority

# When both lanes wait, every so many turns one is bulk's: it moves on, and interactive hardly notices.
_BULK_EVERY = 8
# Those who left stay in the queue until they are at its head, or until they are this many more than the living.
_DEAD = 64

T = TypeVar("T")


class Waiter(Generic[T]):
    """One who waits for `turn`; `need` tells the keeper of the line, whenever it asks, how much is waited for."""

    __slots__ = ("need", "priority", "tenant", "turn")

    def __init__(
        self, turn: asyncio.Future[T], priority: Priority, need: Callable[[], float], tenant: str | None
    ) -> None:
        self.turn = turn
        self.priority = priority
        self.need = need
        self.tenant = tenant


class _Turns(Generic[T]):
    """One lane: the queue whose turn it is, and the queues of the other tenants in the order of theirs.

    While nobody names a tenant there is one queue, and no other to look for.
    """

    __slots__ = ("alive", "named", "others", "queue", "size", "tenant")

    def __init__(self) -> None:
        self.queue: deque[Waiter[T]] = deque()
        # Whose queue that is.
        self.tenant: str | None = None
        self.others: OrderedDict[str | None, deque[Waiter[T]]] = OrderedDict()
        self.alive = 0
        # The length of all queues: those who left are in them until they are at a head.
        self.size = 0
        # Tenant -> how many of its own wait; who has none is forgotten.
        self.named: dict[str, int] = {}

    def join(self, waiter: Waiter[T]) -> None:
        tenant = waiter.tenant
        self.alive += 1
        self.size += 1
        if tenant is not None:
            self.named[tenant] = self.named.get(tenant, 0) + 1
        if tenant == self.tenant:
            self.queue.append(waiter)
        elif self.queue or self.others:
            self.others.setdefault(tenant, deque()).append(waiter)
        else:
            self.tenant = tenant
            self.queue.append(waiter)

    def head(self) -> Waiter[T] | None:
        while True:
            queue = self.queue
            while queue and queue[0].turn.done():
                queue.popleft()
                self.size -= 1
            if queue:
                return queue[0]
            if not self.others:
                return None
            self.tenant, self.queue = self.others.popitem(last=False)

    def serve(self) -> None:
        self._gone(self.queue.popleft())
        self.size -= 1
        if self.others:
            if self.queue:
                self.others[self.tenant] = self.queue
            self.tenant, self.queue = self.others.popitem(last=False)

    def left(self, waiter: Waiter[T]) -> None:
        self._gone(waiter)
        if self.size > 2 * self.alive + _DEAD:
            self.queue = _living(self.queue)
            self.others = OrderedDict((who, kept) for who, queue in self.others.items() if (kept := _living(queue)))
            self.size = len(self.queue) + sum(map(len, self.others.values()))

    def ahead(self, tenant: str | None) -> int:
        if not self.named:
            return self.alive
        # Whoever has fewer waiting than this one will have is through before; the others have as many turns as it has.
        mine = self.alive - sum(self.named.values()) if tenant is None else self.named.get(tenant, 0)
        return min(self.alive, (mine + 1) * (1 + len(self.named)))

    def _gone(self, waiter: Waiter[T]) -> None:
        self.alive -= 1
        tenant = waiter.tenant
        if tenant is not None:
            if self.named[tenant] > 1:
                self.named[tenant] -= 1
            else:
                del self.named[tenant]


def _living(queue: deque[Waiter[T]]) -> deque[Waiter[T]]:
    return deque(waiter for waiter in queue if not waiter.turn.done())


class Line(Generic[T]):
    """The line; `len` counts those who still wait."""

    __slots__ = ("_bulk", "_interactive", "_since_bulk")

    def __init__(self) -> None:
        self._interactive: _Turns[T] = _Turns()
        self._bulk: _Turns[T] = _Turns()
        self._since_bulk = 0

    def join(self, priority: Priority, need: Callable[[], float], tenant: str | None = None) -> Waiter[T]:
        """Stand at the end of a lane, or of one's tenant's queue there."""
        waiter: Waiter[T] = Waiter(asyncio.get_running_loop().create_future(), priority, need, tenant)
        self._lane(priority).join(waiter)
        return waiter

    def head(self) -> Waiter[T] | None:
        """Return the one whose turn it is, None when nobody waits."""
        first, bulk = self._interactive.head(), self._bulk.head()
        if bulk is not None and (first is None or self._since_bulk >= _BULK_EVERY):
            return bulk
        return first

    def serve(self, waiter: Waiter[T], what: T) -> None:
        """Give the head its turn."""
        self._lane(waiter.priority).serve()
        self._since_bulk = 0 if waiter.priority == "bulk" else self._since_bulk + 1
        waiter.turn.set_result(what)

    def left(self, waiter: Waiter[T]) -> None:
        """Note that one in the line has been cancelled and was not served."""
        self._lane(waiter.priority).left(waiter)

    def ahead(self, priority: Priority, tenant: str | None = None) -> int:
        """Return about how many have their turn before one who joins now; bulk's share is not counted."""
        ahead = self._interactive.ahead(tenant)
        return ahead if priority == "interactive" else self._interactive.alive + self._bulk.ahead(tenant)

    def waiting_for(self, priority: Priority) -> int:
        """Return how many wait whom a call of this priority does not pass."""
        return self._interactive.alive if priority == "interactive" else len(self)

    def waiting_of(self, tenant: str) -> int:
        """Return how many of a tenant wait."""
        return self._interactive.named.get(tenant, 0) + self._bulk.named.get(tenant, 0)

    def __len__(self) -> int:
        return self._interactive.alive + self._bulk.alive

    def _lane(self, priority: Priority) -> _Turns[T]:
        return self._interactive if priority == "interactive" else self._bulk
