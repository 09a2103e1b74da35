"""One HTML page about a job, from its journal: `render(collect(path))`.

Reads the journal and imports nothing of bulk but `journal`. A page has no prompt and no answer in it; labels, ids and
error messages are all that others wrote, and each of them is escaped.

facts   reads the journal
charts  draws inline SVG
page    writes the page; page.html is the frame, page.js the tooltips
"""

from aimlasync.bulk.report.facts import Report, ReportError, collect
from aimlasync.bulk.report.page import render

__all__ = ["Report", "ReportError", "collect", "render"]
