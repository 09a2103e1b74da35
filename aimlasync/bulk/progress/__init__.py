"""How a job goes, and what it comes to.

progress  rows per second, the time left, what holds the job back
totals    rows, labels, failures, tokens, money
"""
