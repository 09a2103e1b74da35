"""The progress of a job, and its totals. Imports input, tasks and journal.

quality   labels beside gold ones: accuracy, precision, recall, F1, confusion
totals    rows, labels, failures, tokens, money
progress  rows per second, the time left, what holds the job back
summary   how a job ended
"""
