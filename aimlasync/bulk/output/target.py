"""Where a job may write.

`Target` decides for every table, page, file of failed lines and merged journal. A job may write where nothing is, and
over what it wrote itself and nobody has changed since; anything else is refused unless `overwrite` is asked for.
Imports `journal`, the formats and the `InputError` of input, and of this room `streams`, `replace` and `written`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import BinaryIO, Protocol

from aimlasync.addresses import begins_like_one, is_address, shown
from aimlasync.bulk.input.compression import packing_of_path
from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.rows import Format, InputError
from aimlasync.bulk.journal import disk
from aimlasync.bulk.journal.manifest import JournalError, is_manifest, locked
from aimlasync.bulk.output.replace import replacing
from aimlasync.bulk.output.streams import check_stream, is_stream, named, open_stream
from aimlasync.bulk.output.written import Written, WrittenFiles

_SIDECARS = re.compile(r"(.+)\.(?:manifest|outputs|compact|copy|gone|part-[1-9][0-9]*-of-[1-9][0-9]*)\Z", re.DOTALL)

_FOREIGN = "is there, and is not what this job wrote"
_THEIRS = "the output of another job, whose journal is {}.journal"


class OverwriteError(InputError):
    """A file that would be lost: the job did not write it, or it was changed since; `overwrite` replaces it."""


class Readable(Protocol):
    """Something that is read, and knows its files."""

    @property
    def paths(self) -> Sequence[str]:
        """The files that it is."""

    def same_file(self, path: str) -> bool:
        """Whether `path`, which may be an address, is one of them, or would be in the next run."""


class Target:
    """A path that the job of `journal` writes to; "-" is standard output.

    `reads` are what the same job reads and `taken` what else it writes, which no option allows to be written over;
    `option` is what a refusal tells to choose another of. With `is_journal` the path is the journal itself, whose
    manifest its caller answers for, and is readable by its owner alone. `named` gives the addresses of copies.
    """

    def __init__(
        self,
        path: str,
        *,
        journal: str,
        reads: Collection[Readable | str] = (),
        taken: Collection[str] = (),
        overwrite: bool = False,
        option: str = "name",
        is_journal: bool = False,
        named: Callable[[str], str] = str,
    ) -> None:
        self.path = path
        self._journal = os.path.realpath(journal)
        self._named = named
        self._written = WrittenFiles(self._journal, named)
        self._reads = reads
        self._taken = taken
        self._overwrite = overwrite
        self._option = option
        self._is_journal = is_journal
        self.drops_manifest = False
        """Whether the manifest beside the path goes with what is there: nothing may take the new file for that."""
        # What was at the path last: what identifies it, and its digest if it is the job's own.
        self._found: tuple[tuple[int, ...] | None, str | None] | None = None

    def check(self) -> str | None:
        """Return the digest of the job's own file that is there, None where there is none.

        Raises InputError for a path that cannot be written, OverwriteError for a file that would be lost; OSError.
        """
        if is_stream(self.path):
            check_stream(self.path)
            return None
        check_place(self.path, option=self._option)
        refuse_input(self._named(self.path), self._reads, option=self._option)
        real = os.path.realpath(self.path)
        for path in self._taken:
            if real == os.path.realpath(path) or _same(real, path):
                raise InputError(self.path, f"belongs to the output itself; choose another {self._option}")
        self._check_journals(real)
        return self._check_content(real)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Give a file that takes the place of the path when the block ends well, and is gone when it does not.

        Standard output, a pipe and a device are written as they are. Raises what `check` raises, also at the end of
        the block: the path may have been changed meanwhile.
        """
        if is_stream(self.path):
            with open_stream(self.path) as stream:
                yield stream
            return
        self.check()
        real = os.path.realpath(self.path)
        with replacing(real, name=self.path, private=self._is_journal) as (file, temporary):
            yield file
            file.flush()
            with named(self.path):
                disk.sync(file.fileno())
                size, digest = os.fstat(file.fileno()).st_size, _digest(temporary)
            # Closed before the rename, so that an error of the disk at the end leaves the old file.
            file.close()
            before = self.check()
            # A merge has locked the journal already.
            with locked(real) if self.drops_manifest and not self._is_journal else nullcontext():
                if self.drops_manifest:
                    os.unlink(f"{real}.manifest")
                self._written.add(Written(self._written.name_of(real), size, digest, before))
                with named(self.path):
                    os.replace(temporary, real)
        self._found = None

    def _check_journals(self, real: str) -> None:
        """Refuse what belongs to a journal: the job's own, and another's unless it is to be replaced on purpose."""
        path, other = self.path, f"choose another {self._option}"
        stem = _stem(real)
        if stem == self._journal or (real == self._journal and not self._is_journal):
            raise InputError(path, f"part of the job's own journal; {other}")
        if stem is not None and is_manifest(f"{stem}.manifest"):
            raise InputError(path, f"part of the journal of another job; {other}")
        if not self._is_journal and is_manifest(f"{real}.manifest"):
            try:
                with locked(real):
                    pass
            except JournalError:
                raise InputError(path, f"the journal of another job, which is running; {other}") from None
            self.refuse(f"the journal of another job, with its answers ({path}.manifest says whose)")
            self.drops_manifest = True

    def _check_content(self, real: str) -> str | None:
        try:
            found = os.stat(real)
        except FileNotFoundError:
            self._found = None
            if self._is_output_of_another(real):
                self.refuse(_THEIRS.format(self.path))
            return None
        if not os.access(real, os.W_OK):
            raise InputError(self.path, f"no right to write it; choose another {self._option}")
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if self._found is not None and self._found[0] == stamp:
            return self._found[1]
        known = self._written.read().get(self._written.name_of(real))
        own = None
        # An empty file holds nothing that could be lost.
        if found.st_size or known is not None or self._is_output_of_another(real):
            digest = _digest(real) if known is not None else None
            if known is not None and digest in (known.sha256, known.before):
                own = digest
            elif self._is_output_of_another(real):
                self.refuse(_THEIRS.format(self.path))
            elif found.st_size:
                self.refuse("was changed since this job wrote it" if known is not None else _FOREIGN)
        self._found = (stamp, own)
        return own

    def _is_output_of_another(self, real: str) -> bool:
        """Whether the path is the output of another job, which may be about to write it."""
        theirs = f"{real}.journal"
        return theirs != self._journal and not self._is_journal and is_manifest(f"{theirs}.manifest")

    def refuse(self, what: str) -> None:
        """Raise OverwriteError, unless it is to be overwritten on purpose."""
        if not self._overwrite:
            raise OverwriteError(self.path, f"{what}; choose another {self._option}, or replace it with --overwrite")


def check_place(path: str, *, option: str = "name") -> None:
    """Raise InputError where no file can be made; a file may be there."""
    if is_address(path):
        raise InputError(shown(path), f"no local file, as this must be; choose another {option}")
    if os.path.isdir(path):
        raise InputError(path, "a directory; name a file in it")
    folder = os.path.dirname(os.path.realpath(path) if os.path.islink(path) else path) or "."
    if not os.path.isdir(folder):
        make = "make it first"
        if os.path.exists(folder):
            make = "a file has its name"
        elif begins_like_one(path):
            make = "an address has // after its scheme"
        raise InputError(path, f"there is no directory {folder}; {make}")
    if not os.access(folder, os.W_OK):
        raise InputError(path, f"no right to write into {folder}; choose another {option}")


def check_name(path: str, makes: str, *, ending: str, formats: Collection[Format] = ()) -> None:
    """Raise InputError for a name that says another format than any of `formats`, or a packed one."""
    said = format_of_path(path)
    if packing_of_path(path) is not None:
        kind = "packed file"
    elif said is not None and said not in formats:
        kind = "table"
    else:
        return
    raise InputError(shown(path), f"a name of a {kind}, and this makes {makes}; name it {ending}")


def refuse_input(path: str, reads: Collection[Readable | str], *, option: str) -> None:
    """Raise InputError for a path, or an address, of what is read."""
    for read in reads:
        if _same(read, path) if isinstance(read, str) else read.same_file(path):
            is_there = is_address(path) or os.path.exists(path)
            what = "the input itself" if is_there else "in the input, where the next run would read it"
            # A pattern that a shell resolved has the output in it from the second run on.
            is_one = isinstance(read, str) or len(read.paths) == 1
            others = "" if is_one else ", or name the files of the input without it"
            raise InputError(shown(path), f"{what}; choose another {option}{others}")


def _stem(path: str) -> str | None:
    """Return the journal that a file beside it is named after, None for another name."""
    found = _SIDECARS.match(path)
    return None if found is None else found[1]


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _digest(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
