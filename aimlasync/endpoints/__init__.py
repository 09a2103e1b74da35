"""Endpoints: where requests are sent, with which key and limits, and the live state of each.

It may import `admission`, `resilience` and what lies below them.

    endpoint          a base URL with its key and limits, as the user gives it
    environment       whose keys and URLs the environment has, and to which hosts a key of it may be sent
    keys              API keys, held so that they do not show
    urls              base URLs and proxies that users give, checked: http:// is for loopback
    providers         the vendors: paths, models, and the parameters that each model takes
    translate         a request for one vendor, rewritten for another
    paths             paths and queries that callers give, checked and quoted
    ratelimit_headers what response headers say about rate limits
    upstream          the live state of one endpoint: limiter, circuit breaker, retry budget, lanes
    account_limits    whose the limits are: each model's, or the account's
    lane              one model at one endpoint: learned limits, queue, pause, circuit breaker, permits
    standstill        whether all calls of a lane hang while others wait for their places
    learned_file      what was learned of limits, in a file for the next run
    learned_limits    what several processes learned of them, together
    statistics        the counters and figures of one endpoint and of its models
"""
