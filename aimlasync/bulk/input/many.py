"""Several files as one input: those of a directory, those that a pattern matches, or those that were named.

`open_files` says which files are meant; one alone is a `Source` like any other. `ManyFiles` reads them in their order,
one open at a time. Rows are numbered through all of them, so that a name row-N is unique, and a row knows its file:
positions in messages are file and line. All must have one format and the same columns; a file without rows is left
out. Imports this room alone.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from functools import partial
from itertools import islice

from msgspec.structs import replace

from aimlasync.addresses import begins_like_one, is_address, path_of, real_name, shown
from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.remote import input_errors, paths_at, stamp_of
from aimlasync.bulk.input.rows import AS_FOUND, Format, InputError, NoRowsError, Reading, Row, Skim, Wanted
from aimlasync.bulk.input.source import Source, Survey, open_source
from aimlasync.bulk.input.threads import begun, done_each

_TABLES = ("csv", "tsv", "xlsx", "parquet")
# Files of an object store of which stamps or copies are asked for at once, and the bytes of such copies.
_AT_ONCE = 32
_COPIES = 2**26
# Seconds for which a copy is waited for without a turn of the event loop.
_PAUSE = 0.005


def open_files(
    names: Sequence[str], format: Format | None = None, *, reading: Reading = AS_FOUND, spool: bool = True
) -> Source:
    """Open the files that `names` mean: files, directories with all below them, patterns. Raises InputError.

    A file that several of them mean is read once, where it stands first. With `spool` a pipe can be read again.
    """
    with input_errors():
        names = [path_of(name) for name in names]
    files: dict[str, str] = {}
    again: list[str] = []
    for path in (path for name in names for path in _paths(name)):
        whole = path if is_address(path) else os.path.abspath(path)
        if whole in files:
            again.append(shown(path))
        else:
            files[whole] = path
    paths = list(files.values())
    if len(paths) == 1:
        source = open_source(paths[0], format, reading=reading, spool=spool)
    else:
        source = ManyFiles(paths, format, reading=reading, name=names[0] if len(names) == 1 else None)
    source.again = again
    source.growing = [real_name(name) for name in names if name not in paths]
    return source


def _paths(name: str) -> list[str]:
    """Return the files that a name means, in the order of their names."""
    if is_address(name):
        return paths_at(name)
    if os.path.isdir(name):
        found: list[str] = []
        for folder, folders, files in os.walk(name):
            folders[:] = sorted(each for each in folders if not each.startswith((".", "_")))
            found += [
                os.path.join(folder, file)
                for file in sorted(files)
                if not file.startswith((".", "_")) and format_of_path(file) is not None
            ]
        if not found:
            raise InputError(name, "a directory without .csv, .tsv, .jsonl, .json, .parquet or .xlsx in it; name files")
        return found
    if glob.has_magic(name) and not os.path.exists(name):
        found = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
        if not found:
            raise InputError(name, "no file matches; check the pattern")
        return found
    if not os.path.exists(name):
        hint = "; an address has // after its scheme" if begins_like_one(name) else ""
        raise InputError(name, f"no such file; check the name{hint}")
    return [name]


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _seen_as(view: Callable[[Row], Row], check: Callable[[Row], object], row: Row) -> None:
    check(view(row))


def _close(opened: Future[Source]) -> None:
    if opened.exception() is None:
        opened.result().close()


class ManyFiles(Source):
    """The rows of several files, at least two."""

    def __init__(
        self,
        paths: Sequence[str],
        format: Format | None = None,
        *,
        reading: Reading = AS_FOUND,
        name: str | None = None,
    ) -> None:
        self._files = paths
        self._said = format
        self._how = reading
        self._of_files: list[str] = []
        first = open_source(paths[0], format, reading=reading)
        super().__init__(
            io.BytesIO(),
            format=first.format,
            name=shown(name) if name else f"{shown(paths[0])} and {len(paths) - 1} more",
            can_reread=True,
            reading=reading,
        )
        first.close()
        self.may_wait = any(map(is_address, paths))

    @property
    def paths(self) -> Sequence[str]:
        """The files that it is; addresses are without secrets."""
        return [shown(path) for path in self._files]

    def sample(self, size: int) -> list[Row]:
        """Return the first rows, at most `size`, which the iteration gives again. Raises InputError without any."""
        return list(islice(self, size))

    def __iter__(self) -> Iterator[Row]:
        return (row for row in self.chosen(None) if not isinstance(row, int))

    def chosen(self, wanted: Wanted | None, *, first: int = 1) -> Iterator[Row | int]:
        """Iterate the rows whose numbers are `wanted`, as a `Source` does; numbers go through all files."""
        rows, view = self._all(wanted, first), self._view
        return rows if view is None else (row if isinstance(row, int) else view(row) for row in rows)

    def survey(
        self,
        check: Callable[[Row], object],
        *,
        limit: int | None = None,
        wanted: Wanted | None = None,
        skim: Skim | None = None,
        alike: bool = False,
        first: int = 1,
    ) -> Survey:
        """Read all files to their ends, as a `Source` does its one, and return what was found. Raises InputError.

        What is wrong with a row is said with the name of its file.
        """
        elsewhere, number = self._stamps_elsewhere(), first - 1
        stamp = self._stamp_of(elsewhere)
        digests: dict[str, str] = {}
        for opened in self._with_rows():
            if opened is None:
                continue
            part, placed = opened
            try:
                found = part.survey(
                    self._checked(check, placed),
                    limit=limit,
                    wanted=wanted,
                    skim=skim if self._view is None else None,
                    alike=alike,
                    first=number + 1,
                )
            except InputError as error:
                if error.name != self.name:
                    raise
                raise InputError(part.name, error.what, line=error.line) from None
            digests[part.name] = found.digest
            number += found.rows
            if limit is not None and number >= limit:
                break
        return Survey(number - first + 1, self._digest_of(digests, elsewhere), stamp)

    def _checked(self, check: Callable[[Row], object], placed: Callable[[Row], Row] | None) -> Callable[[Row], object]:
        """Return what checks a row of one of the files."""
        for view in (self._view, placed):
            if view is not None:
                check = partial(_seen_as, view, check)
        return check

    def digest(self) -> str:
        """Return a digest of the digests of the files, in their order; of files elsewhere, of their stamps."""
        return self._digest_of({}, self._stamps_elsewhere())

    def _digest_of(self, known: Mapping[str, str], elsewhere: Mapping[str, tuple[int, int]]) -> str:
        whole = hashlib.sha256()
        for path in self._files:
            if path in elsewhere:
                whole.update(repr(elsewhere[path]).encode())
            elif (digest := known.get(shown(path))) is not None:
                whole.update(digest.encode())
            else:
                with closing(self._opened(path)) as part:
                    whole.update(part.digest().encode())
        return whole.hexdigest()

    def stamp(self) -> tuple[int, int]:
        """Return what changes when one of the files is written to. Raises InputError for one that is gone."""
        return self._stamp_of(self._stamps_elsewhere())

    @property
    def size(self) -> int:
        """The bytes of the files, 0 where one of them is elsewhere: a question for each is dear."""
        return 0 if self.may_wait else super().size

    def _stamp_of(self, elsewhere: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
        size = times = 0
        for path in self._files:
            try:
                found = elsewhere.get(path) or _stamp(os.stat(path))
            except OSError:
                raise InputError(path, "is gone; the same command again takes the files that are there") from None
            size, times = size + found[0], times + found[1]
        return size, times

    def same_file(self, path: str) -> bool:
        """Whether `path`, which may be an address, is one of the files, or will be."""
        files = () if is_address(path) or not os.path.exists(path) else self._files
        return super().same_file(path) or any(os.path.samefile(path, file) for file in files if not is_address(file))

    def close(self) -> None:
        """Do nothing: each file is closed when it is read."""

    def _opened(self, path: str) -> Source:
        part = open_source(path, self._said, reading=self._how)
        part.file = part.name
        return part

    def _stamps_elsewhere(self) -> dict[str, tuple[int, int]]:
        """Return the stamps of the files of object stores, of which many are asked for at once. Raises InputError."""
        paths = [path for path in self._files if is_address(path)]
        return dict(zip(paths, done_each(stamp_of, paths, at_once=_AT_ONCE), strict=True))

    def _parts(self) -> Iterator[Source | None]:
        """Open each file; those elsewhere are copied in threads, while the rows of the ones before are asked about.

        None is given while nothing but a copy is waited for.
        """
        coming: deque[Future[Source] | None] = deque()
        ahead, paths = 1, iter(self._files)
        try:
            for path in self._files:
                while len(coming) <= ahead and (after := next(paths, None)) is not None:
                    coming.append(begun(partial(self._opened, after)) if is_address(after) else None)
                copy = coming[0]
                while copy is not None and not wait([copy], _PAUSE).done:
                    yield None
                part = self._opened(path) if copy is None else copy.result()
                coming.popleft()
                # As far as is known, the next ones are as large.
                ahead = max(1, min(_AT_ONCE, _COPIES // max(1, part.size)))
                yield part
        finally:
            for copy in filter(None, coming):
                copy.add_done_callback(_close)

    def _all(self, wanted: Wanted | None, first: int) -> Iterator[Row | int]:
        number = first - 1
        for opened in self._with_rows():
            if opened is None:
                yield number
                continue
            part, placed = opened
            for row in part.chosen(wanted, first=number + 1):
                number = row if isinstance(row, int) else row.number
                yield row if placed is None or isinstance(row, int) else placed(row)

    def _with_rows(self) -> Iterator[tuple[Source, Callable[[Row], Row] | None] | None]:
        """Open each file that has rows; None while a copy is waited for.

        With it comes what makes its rows those of all, None where they are.
        """
        is_first = True
        empty: NoRowsError | None = None
        for part in self._parts():
            if part is None:
                yield None
                continue
            with closing(part):
                try:
                    part.sample(1)
                except NoRowsError as error:
                    empty = error
                    continue
                if is_first:
                    self._take_columns(part)
                is_first = False
                yield part, None if self._check_columns(part) else self._in_order
        if is_first and empty is not None:
            raise empty

    def _in_order(self, row: Row) -> Row:
        if row.cells is None:
            return row
        return replace(row, cells=[row.fields[name] for name in self._of_files])

    def _take_columns(self, part: Source) -> None:
        """Let the first file say how all are written."""
        self.format, self.headings, self.dialect, self.types = part.format, part.headings, part.dialect, part.types
        self._of_files = part.columns
        if self._view is None:
            self.columns = part.columns

    def _check_columns(self, part: Source) -> bool:
        """Return whether the columns are those of the first file in their order. Raises InputError for others."""
        if part.format != self.format:
            raise InputError(part.name, f"{part.format}, and the files before are {self.format}; ask in separate jobs")
        if part.format not in _TABLES:
            return True
        mine, theirs = self._of_files, part.columns
        if sorted(mine) != sorted(theirs):
            odd = sorted(set(theirs) ^ set(mine)) or theirs
            where = "there" if odd[0] in theirs else "not there"
            what = f"a column {odd[0]!r} is {where}, unlike in {self.paths[0]}; make them alike"
            raise InputError(part.name, what)
        for column, kind in part.types.items():
            if self.types[column] != kind:
                what = f"{column!r} is {kind} here and {self.types[column]} in {self.paths[0]}; make them alike"
                raise InputError(part.name, what)
        return mine == theirs
