"""Rate limits and a budget of one account, shared by many processes.

A worker (one upstream in one process) leases a small part of the account's minute from a shared place, and spends it by
itself. The shared place is a process of the same machine (`quota.server`) or Redis (`aimlasync.redis`). This package
may import `cost`, `config` and `errors`.

    protocol      what workers send to a shared place, and what it answers
    lease         the worker's side: takes a lease, spends it, returns what is left
    account       the shared place's arithmetic of the rate limits
    minute        one limit's minute and the count of workers, which `account` uses
    fallback      what a worker does while it cannot reach the shared place
    server        a shared place for the processes of one machine
    purse         the shared place's arithmetic of a budget
    shared_budget the worker's side of a shared budget
"""

from aimlasync.quota.protocol import Quota, QuotaDownError

__all__ = ["Quota", "QuotaDownError"]
