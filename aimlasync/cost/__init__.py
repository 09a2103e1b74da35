"""What calls cost, and a cap on what may be spent.

It may import `chat`, `responses` and what lies below them.

    tokens      what a reply took, by its `usage`, and the cost that it states
    plain_text  whether a request holds text alone
    media       what the images and files of a request may take
    prices      prices per token, and what a reply costs at them
    budget      the spending cap: each attempt reserves the most that it may cost
"""
