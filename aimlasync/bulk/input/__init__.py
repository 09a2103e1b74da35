"""Input of a job: one row at a time, whatever the size. Imports no other room of bulk.

rows     CSV and JSONL
parquet  Parquet
source   a file that can be read again, or a stream that cannot
shard    one machine's part of the rows
"""
