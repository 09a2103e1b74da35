"""When a request is tried again, and when an endpoint is left alone: arithmetic without I/O.

It may import `errors` and `transport.base`.

    retry           the retry policy: how often, after how long
    retry_budget    how many retries one endpoint is sent in all
    circuit_breaker when an endpoint that fails rests
    hedging         when a slow request gets a second one beside it
"""
