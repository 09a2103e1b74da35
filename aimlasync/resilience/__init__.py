"""When an attempt is retried, when an endpoint rests, and when a second attempt is sent: arithmetic without I/O.

It may import `errors` and `transport.base`.

    retry           the retry policy: how many attempts, after which waits
    retry_budget    how many retries all calls together may send to one endpoint
    circuit_breaker when an endpoint that fails gets no attempts
    hedging         when a slow attempt gets a second one beside it, and the race of the two
"""
