"""The queue of calls that wait for admission: interactive calls before bulk calls, tenants in turn.

The queue decides the order alone; `admission.limiter` decides who is admitted, and when. While both priorities wait,
one of every eight turns goes to a bulk call. Within a priority, tenants take turns (round robin). Within a tenant,
calls are served first in, first out, and a call that is tried again goes before them: it has waited already, and may
not have the time to do so once more. Calls without a tenant count as one tenant. It may import `config`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from aimlasync.config import Priority

# While both priorities wait, one of so many turns goes to a bulk call: enough for bulk calls to progress, and too few
# to delay interactive calls noticeably.
BULK_EVERY = 8
# A cancelled waiter stays in its queue until it reaches the head, or until the queue holds this many more cancelled
# waiters than live ones. So a cancellation costs no search.
_MAX_CANCELLED = 64

T = TypeVar("T")


class Waiter(Generic[T]):
    """One waiting call: `turn` resolves when it is served; `need()` returns how many tokens it needs, as known now."""

    __slots__ = ("need", "priority", "tenant", "turn")

    def __init__(
        self, turn: asyncio.Future[T], priority: Priority, need: Callable[[], float], tenant: str | None
    ) -> None:
        self.turn = turn
        self.priority = priority
        self.need = need
        self.tenant = tenant


class _PriorityQueue(Generic[T]):
    """The waiters of one priority: the queue of the tenant whose turn it is, and the queues of the other tenants.

    The other queues are in the order of their turns. While no call names a tenant, there is one queue and no other.
    """

    __slots__ = ("by_tenant", "current", "length", "others", "tenant", "waiting")

    def __init__(self) -> None:
        self.current: deque[Waiter[T]] = deque()
        # The tenant of the current queue.
        self.tenant: str | None = None
        self.others: OrderedDict[str | None, deque[Waiter[T]]] = OrderedDict()
        # How many live waiters there are.
        self.waiting = 0
        # The length of all queues together, cancelled waiters included.
        self.length = 0
        # Tenant -> its live waiters; a tenant without any is removed.
        self.by_tenant: dict[str, int] = {}

    def join(self, waiter: Waiter[T], again: bool) -> None:
        tenant = waiter.tenant
        self.waiting += 1
        self.length += 1
        if tenant is not None:
            self.by_tenant[tenant] = self.by_tenant.get(tenant, 0) + 1
        if tenant != self.tenant and (self.current or self.others):
            queue = self.others.setdefault(tenant, deque())
        else:
            self.tenant, queue = tenant, self.current
        (queue.appendleft if again else queue.append)(waiter)

    def head(self) -> Waiter[T] | None:
        while self.length:
            if not self.current:
                self.tenant, self.current = self.others.popitem(last=False)
            elif self.current[0].turn.done():
                self.current.popleft()
                self.length -= 1
            else:
                return self.current[0]
        return None

    def serve(self) -> None:
        self._uncount(self.current.popleft())
        self.length -= 1
        if self.others:
            if self.current:
                self.others[self.tenant] = self.current
            self.tenant, self.current = self.others.popitem(last=False)

    def left(self, waiter: Waiter[T]) -> None:
        self._uncount(waiter)
        if self.length > 2 * self.waiting + _MAX_CANCELLED:
            self.current = _live(self.current)
            self.others = OrderedDict((tenant, kept) for tenant, queue in self.others.items() if (kept := _live(queue)))
            self.length = len(self.current) + sum(map(len, self.others.values()))

    def ahead(self, tenant: str | None) -> int:
        if not self.by_tenant:
            return self.waiting
        # Tenants take turns, so until a new call of this tenant is served, each other tenant has at most as many turns
        # as this tenant has waiters, the new one included.
        own = self.waiting - sum(self.by_tenant.values()) if tenant is None else self.by_tenant.get(tenant, 0)
        return min(self.waiting, (own + 1) * (1 + len(self.by_tenant)))

    def _uncount(self, waiter: Waiter[T]) -> None:
        self.waiting -= 1
        tenant = waiter.tenant
        if tenant is not None:
            if self.by_tenant[tenant] > 1:
                self.by_tenant[tenant] -= 1
            else:
                del self.by_tenant[tenant]


def _live(queue: deque[Waiter[T]]) -> deque[Waiter[T]]:
    return deque(waiter for waiter in queue if not waiter.turn.done())


class FairQueue(Generic[T]):
    """The waiters of both priorities."""

    __slots__ = ("_bulk", "_interactive", "_since_bulk", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        """How many waiters were neither served nor cancelled."""
        self._interactive: _PriorityQueue[T] = _PriorityQueue()
        self._bulk: _PriorityQueue[T] = _PriorityQueue()
        self._since_bulk = 0

    def join(
        self, priority: Priority, need: Callable[[], float], tenant: str | None = None, *, again: bool = False
    ) -> Waiter[T]:
        """Add a waiter at the end of its tenant's queue; `again`, for one that was served before, at its head."""
        waiter: Waiter[T] = Waiter(asyncio.get_running_loop().create_future(), priority, need, tenant)
        self._queue_of(priority).join(waiter, again)
        self.waiting += 1
        return waiter

    def head(self) -> Waiter[T] | None:
        """Return the waiter whose turn it is, None when nobody waits."""
        first, bulk = self._interactive.head(), self._bulk.head()
        if bulk is not None and (first is None or self._since_bulk >= BULK_EVERY):
            return bulk
        return first

    def serve(self, waiter: Waiter[T], result: T) -> None:
        """Remove the head and resolve its turn with `result`; `waiter` must be what `head()` returned."""
        self._queue_of(waiter.priority).serve()
        self.waiting -= 1
        self._since_bulk = 0 if waiter.priority == "bulk" else self._since_bulk + 1
        waiter.turn.set_result(result)

    def left(self, waiter: Waiter[T]) -> None:
        """Note that a waiter was cancelled before it was served."""
        self._queue_of(waiter.priority).left(waiter)
        self.waiting -= 1

    def ahead(self, priority: Priority, tenant: str | None = None) -> int:
        """Return about how many waiters are served before a call that joins now.

        For an interactive call, the turns of bulk calls are not counted.
        """
        ahead = self._interactive.ahead(tenant)
        return ahead if priority == "interactive" else self._interactive.waiting + self._bulk.ahead(tenant)

    def waiting_for(self, priority: Priority) -> int:
        """Return how many waiters a new call of this priority cannot overtake by its priority."""
        return self._interactive.waiting if priority == "interactive" else self.waiting

    def waiting_of(self, tenant: str) -> int:
        """Return how many calls of a tenant wait."""
        return self._interactive.by_tenant.get(tenant, 0) + self._bulk.by_tenant.get(tenant, 0)

    def _queue_of(self, priority: Priority) -> _PriorityQueue[T]:
        return self._interactive if priority == "interactive" else self._bulk
