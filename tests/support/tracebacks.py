"""What a person or a log might see of an error. It imports nothing of the library."""

from __future__ import annotations

import io
import traceback


def seen(error: BaseException) -> str:
    """All that a traceback, a debugger's locals or a structured log would show, of the whole chain."""
    text = io.StringIO()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is None:
            continue
        pending += [link.__cause__, link.__context__]
        shown = traceback.TracebackException.from_exception(link, capture_locals=True)
        # The tests' own frames name the key; the library's must not.
        shown.stack[:] = [frame for frame in shown.stack if "/tests/" not in frame.filename]
        text.write("".join(shown.format(chain=False)))
        text.write(f"{link!r} {link!s} {link.args!r} {vars(link)!r}")
    return text.getvalue()
