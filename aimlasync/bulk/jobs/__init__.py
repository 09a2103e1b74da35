"""How rows are run through a task: a fixed number of workers, until it is done or enough.

job           the runner
journaled     a job over a file, with a journal
streamed      a job over a stream, without one
worker_pool   a fixed number of tasks over an input of any length
ask_one       one row from its request to its result
dedupe        identical requests share one call
stop_rules caps                when it is enough
input_order async_iter         the order of the input; iterators in threads
dry_run       what a whole job would take
"""
