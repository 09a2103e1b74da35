"""One HTML page about a job, from its journal: `render(collect(path))`.

A page has no prompt in it, and of answers labels, numbers and the values that a schema lists; these, ids and error
messages are all that others wrote, and each of them is escaped.

asked   what the job asked, from its manifest
fields  what answers in a form say
facts   reads the journal
times   when rows were worked on, and how long they took
failure_words  failures in words, and what to do
charts  draws inline SVG
markup  tables, bars, numbers
first_page     what the reader who pays sees
page    writes the page; page.html is the frame, page.js the tooltips
"""

from aimlasync.bulk.report.facts import Report, ReportError, collect
from aimlasync.bulk.report.page import render

__all__ = ["Report", "ReportError", "collect", "render"]
