"""What is asked about a row, and how its answer is read.

request         one request, and the line that brings it
result          what became of one
tasks           requests as they come; a prompt filled in with columns
classification  labels, and answers of a given form
prompt labels few_shot answer_schema text_column confidence   the parts of a classification
"""
