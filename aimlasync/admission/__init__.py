"""Admission: which attempt may be sent to an endpoint, and when. Rate limits, the concurrency limit, the queue.

It may import `quota`, `config` and what lies below them. It has no I/O.

    limiter          admits the attempts of one model, and says what they wait for
    endpoint_limiter what the models of an endpoint share: stated limits, a shared quota, pauses, turns
    account          whether the refusals of several models come from one limit of the account
    account_trial    the same where refusals last: one limit for all models is tried
    rate_limits      requests and tokens per minute: a sliding window, and a token bucket that spreads it
    fair_queue       the waiting calls: by priority, tenants in turn
    adaptive         how many attempts in flight, and how many per second, learned; of which a refusal speaks
    knee             how many in flight: slow start in which each doubling must pay
    hung             attempts that hang take no place of the others
    chance           refusals that come at any rate: which share of them speaks of no limit
    pace             how many per second: what was accepted from one row of refusals to the next
    recall           what was known before a bad time, and is tried again after it
    learned          what was learned and has held, in words that a user can act on
    token_estimate   how many tokens a request will probably take
    outcome          what an attempt says about the server's capacity
    stated_waits     whether a wait that refusals state holds for all calls, or for the refused one alone
    used_up          whether to believe headers that say that a window is used up
    refusal_words    the same of an error response, by its status and its words
"""
