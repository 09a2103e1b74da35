"""Runs the rows of an input through a task, until they are done or the job is stopped.

Imports input, tasks, journal and progress.

job          a job as its callers see it: rows, options, runner, totals, why it ended
runner       runs the rows of a job in this process
ask_one      one row from its request to its result
first_calls  how many calls are in flight while nobody knows how long answers are
job_rows     what the runner needs of the rows of a job; the filter of rows that are done
journaled    the rows of a file, whose results go to a journal
streamed     the rows of a stream, whose results are written as they come
options      how a job runs
worker_pool  a fixed number of tasks over an input of any length
stop_rules   when a failure stops the job
caps         money, tokens and time
dedupe       identical requests share one call
input_order  results in the order of the input
async_iter   iterators as asynchronous ones
waiters      coroutines that are woken one at a time
dry_run      what a whole job would take
probes       rows from all over an input: a sample, and those that decide whether a job goes on
valued       tokens and cost of a row, filled in where the server does not say
"""
