"""A journal as a table.

export  a journal in the order of the input
failed  the lines that are failures
merge   the journals of shards as one
tables  CSV, JSONL and Parquet
"""
