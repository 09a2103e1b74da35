"""What calls cost, and a cap on it.

It may import `chat`, `responses` and what lies below them.

    prices  prices per token, and what a reply cost by them
    budget  a spending cap: each attempt reserves the most it may cost
"""
