"""The journal of a job: one line per row, appended, never lost; and read again. Imports input and tasks.

journal        appends and syncs
record         one line
convert        from a result to its record, and back
manifest       which job a journal belongs to
index          the last record of each row
id_set         which rows are done
known_rows     the rows of today's table, and which answers are theirs
table_changes  a journal as one of today's table
part_files     names of journals, also those of worker processes
file_lock      one process at a time
disk           whole writes and syncs
"""
