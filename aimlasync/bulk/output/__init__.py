"""Tables and other files that are made of a journal, and where files may be written. Imports input, tasks and journal.

export     a journal as a table in the order of the input
layout     which columns a table has, and what is in them
gold       the gold column of an input beside the labels of a journal
evaluate   how well the labels of a journal agree with gold ones
asked_rows  the rows that the job of a journal asked about, and their names
rows_of_today   which record is that of a row, also where the input has changed
tables     rows as a table in any format, packed or not
delimited  CSV and TSV, in the dialect of the input
parquet_table   Parquet, with the types of the input
workbook_table  an Excel workbook
cells      a value as the text of a cell
result_rows     results of a job as rows of another
merge      the journals of shards as one
failed     the lines that are failures
target     where a job may write
written    the record of what a job wrote
replace    a file that replaces another whole
directory  a directory that replaces another whole
elsewhere  the output of a job at an address
copies     files at addresses for what reads journals or writes one file
place      a file at an address, and those beside it
streams    standard output, pipes, devices
"""
