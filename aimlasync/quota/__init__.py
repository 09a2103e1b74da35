"""One account's limits shared by many processes.

It may import `cost`, `config` and `errors`. A worker leases a small part of the account's minute from a shared place
and spends it on its own. `aimlasync.redis` is such a place too.

    protocol      what workers ask a shared place, and what it answers
    account       the arithmetic of a shared place
    lease         a worker's side
    server        a shared place for the processes of one machine
    shared_budget a spending cap shared in the same way
"""

from aimlasync.quota.protocol import Quota, QuotaDownError

__all__ = ["Quota", "QuotaDownError"]
