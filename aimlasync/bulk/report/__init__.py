"""One HTML page about a job, from its journal: `render(collect(path))`.

Law: reads the journal and nothing of the job's code but the shape of a line. A page has no prompt and no answer in it;
labels, ids and error messages are all that others wrote, and each of them is escaped.

`facts` reads, `charts` draws, `page` writes; page.html is the frame, page.js the tooltips.
"""

from aimlasync.bulk.report.facts import Report, ReportError, collect
from aimlasync.bulk.report.page import render

__all__ = ["Report", "ReportError", "collect", "render"]
