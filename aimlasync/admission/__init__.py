"""Who may send, and when: one endpoint's rate limits, its concurrency limit and the queue before them.

It may import `quota`, `config` and what lies below them. No I/O.

    limiter        the one place where attempts are admitted
    rate_limits    requests and tokens per minute: a sliding window, and a bucket that paces it
    fair_queue     who waits: by priority, tenants in turn
    adaptive       how many attempts in flight, and how many per second, learned from refusals
    bound          one such number: slow start, cuts and probes
    diagnosis      which of the two a refusal speaks of
    token_estimate how many tokens a request will take
    outcome        what an attempt says about the server's capacity
"""
