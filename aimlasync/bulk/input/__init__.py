"""Input of a job: one row at a time, whatever the size. Imports no other room of bulk.

rows          CSV and its like, JSONL, JSON arrays
columns       columns by name, also those within a column
dialect       how a delimited file is written: delimiter, line ends, header
json_array    the items of a JSON array, one at a time
written_json  JSON that a user wrote in an option or a cell
parquet       Parquet
values        values that a program gives, as those of a file are read
workbook      a sheet of an Excel workbook
encoding      text that is not UTF-8
compression   gzip and Zstandard
formats       which format an input is in
source        a file that can be read again, or a stream that cannot
many          several files as one input
spool         temporary copies of what cannot be read twice
threads       work in threads that do not keep the process alive
remote        files at addresses: object stores, web servers, archives
shard         one machine's part of the rows
"""
