"""The record of a job: one line per row, appended, never lost; and read again.

journal     appends and syncs
record      one line
convert     from a result to its line, and back
manifest    which job a journal belongs to
file_lock disk                 one process at a time; what differs between systems
index id_set part_files        the last word on a row; which rows are done; the journals of worker processes
"""
