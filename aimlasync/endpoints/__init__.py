"""One upstream, and what is known of it: its address and key, its vendor, its limits, how it is doing.

It may import `admission`, `resilience` and what lies below them.

    endpoint          a base URL with its key and limits, as the user gives it
    providers         what each vendor serves and takes
    translate         one vendor's request as another's
    ratelimit_headers what response headers say of limits
    upstream          an endpoint at work
    statistics        what it has done
"""
