"""How a delimited file is written: its delimiter, line ends, byte order mark and header, found in its first lines.

Pure; imports msgspec alone. A delimiter is guessed from the header, and from the line below it where the header could
be divided in several ways. What is found is repeated when the same table is written with more columns.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice

import msgspec

# In the order in which one is preferred to another that divides the header into as many columns.
_DELIMITERS = ",;\t|"
# A first line that spreadsheets write and read: it says what the delimiter is.
_SEP = re.compile(r'"?sep=(.)"?\r?\n?\Z', re.IGNORECASE | re.DOTALL)

_KINDS = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("a number", r"[+-]?(?:\d+|\d{1,3}(?:[.,']\d{3})+)(?:[.,]\d+)?(?:[eE][+-]?\d+)?%?"),
        ("a date", r"(?:\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4})(?:[ T]\d{1,2}:\d{2}\S*)?"),
        ("an address", r"https?://\S+|[^@\s]+@[^@\s]+\.\w+"),
        ("an id", r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    )
)
# Columns of a year are named like this, over numbers.
_EDGE = r"[\s\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+"
_UNSEEN = re.compile(rf"\A{_EDGE}|{_EDGE}\Z")
_YEAR = re.compile(r"(?:19|20)\d\d")
# Lines of a header, whose names may be long.
_HEADER_LINES = 50
# A longer value is prose, and does not occur twice by being a category.
_CATEGORY = 40


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a delimited file is written, beside its values."""

    delimiter: str = ","
    pad: str = ""
    """What stands behind each delimiter: nothing, or a blank."""
    line_end: str = "\n"
    has_mark: bool = False
    """Whether it begins with a byte order mark, or is in an encoding of its own and must be told from that."""
    sep_line: bool = False
    """Whether its first line is sep= and the delimiter."""
    has_header: bool = True


def read_sep(line: str) -> str | None:
    """Return the delimiter that a line such as `sep=;` says, None for any other line."""
    found = _SEP.fullmatch(line)
    return None if found is None else found[1]


def guess_delimiter(header: str, below: Sequence[str]) -> str:
    """Return what divides the columns of a header; `below` are lines under it, for one that is not clear."""
    counts = {delimiter: len(cells_of(header, delimiter)) for delimiter in _DELIMITERS}
    found = [delimiter for delimiter in _DELIMITERS if counts[delimiter] > 1]
    fitting = [each for each in found if all(1 < len(cells_of(line, each)) <= counts[each] for line in below)]
    return max(fitting or found or ",", key=lambda delimiter: counts[delimiter])


def is_clear(header: str) -> bool:
    """Whether one delimiter alone divides a header."""
    return sum(len(cells_of(header, delimiter)) > 1 for delimiter in _DELIMITERS) < 2


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of one line, as far as it goes."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def open_table(
    text: Iterator[str], said: str | None, usual: str | None, *, header: bool | None
) -> tuple[Dialect, int, list[str]]:
    """Find out how a table is written; return that, the lines above it, and those that were read for that.

    The delimiter is the one that was `said`, else that of a `sep=` line, else the `usual` one, else it is guessed.
    """
    above, first = 0, next(text, "")
    if (sep := read_sep(first)) is not None:
        first, above = next(text, ""), 1
    while first and not first.strip():
        first = next(text, "")
        above += 1
    for _ in range(_HEADER_LINES):
        if first.count('"') % 2 == 0:
            break
        # A quoted name goes on in the next line.
        first += next(text, "")
    below: list[str] = []
    delimiter = said or sep or usual
    if delimiter is None:
        if not is_clear(first):
            below = list(islice(text, 1))
        delimiter = guess_delimiter(first, below)
    rest = cells_of(first, delimiter)[1:]
    dialect = Dialect(
        delimiter=delimiter,
        pad=" " if rest and all(cell.startswith(" ") for cell in rest) else "",
        line_end="\r\n" if first.endswith("\r\n") else "\n",
        sep_line=sep is not None,
        has_header=header is not False,
    )
    return dialect, above, [*StringIO(first), *below]


def named_by(cells: list[str], dialect: Dialect) -> tuple[list[str], list[str]]:
    """Return the columns that the first row of a table names, and how it spells them."""
    if dialect.has_header:
        return distinct([plain_name(cell) for cell in cells]), cells
    numbers = [str(number) for number in range(1, len(cells) + 1)]
    return numbers, numbers


def plain_name(heading: str) -> str:
    """Return a column's name without what nobody sees around it: blanks, marks, characters of no width."""
    return _UNSEEN.sub("", heading)


def distinct(names: Sequence[str]) -> list[str]:
    """Return names that each stand for one column: several `x` become x_1, x_2. Empty ones stay."""
    counts = Counter(names)
    taken, seen = set(names), Counter[str]()
    found: list[str] = []
    for name in names:
        if name and counts[name] > 1:
            seen[name] += 1
            while f"{name}_{seen[name]}" in taken:
                seen[name] += 1
            name = f"{name}_{seen[name]}"
        found.append(name)
    return found


def why_no_header(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Return why a first line reads like one of the `rows` under it, None for one that can be a header.

    A name is suspicious that is of a kind that names are not (a number, a date, an address) and that the values under
    it are of too, or that is one of several short values under it.
    """
    rows = [row for row in rows if list(row) != list(names)]
    if [name for name in names if name] in ([str(n + first) for n in range(len(names))] for first in (0, 1)):
        # Tables without names are written with numbers for them.
        return None
    for at, name in enumerate(names):
        values = [row[at].strip() for row in rows if at < len(row) and row[at].strip()]
        if not name or not values or _YEAR.fullmatch(name):
            continue
        for kind, pattern in _KINDS:
            if pattern.fullmatch(name) and all(pattern.fullmatch(value) for value in values):
                return f"{name!r} is {kind}, as are the values under it"
        if len(name) <= _CATEGORY and name in values and 1 < len(set(values)) < len(values):
            return f"{name!r} is a value of the same column too"
    return None


def why_too_many(cells: int, columns: int, dialect: Dialect) -> str:
    """Return what is wrong with a row of more `cells` than there are columns, and what to do."""
    there = "under a header" if dialect.has_header else "below a first row"
    mark = {",": "comma", ";": "semicolon", "\t": "tab"}.get(dialect.delimiter, dialect.delimiter)
    what = f"{cells} fields {there} of {columns}, divided by {mark}"
    if columns == 1:
        return f"{what}; say what divides the columns with --delimiter"
    return f"{what}; put quotes around a field that has one, or say another --delimiter"


def advised(said: str) -> str:
    """Return what an error of `csv` means, and what to do."""
    if "unexpected end" in said:
        return "a quote is opened here and never closed; close it, or double it if it is part of the text"
    if "expected after" in said:
        return 'text after a closing quote; double a quote that is part of the text ("")'
    if "new-line" in said:
        return "a bare carriage return; save the file with ordinary line ends"
    return f"{said}; mend the line"
