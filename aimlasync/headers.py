"""Headers: which request headers may be sent, which of them hold keys, and the fields of a response.

Endpoints, clients, calls and both transports check their headers here, each before they are merged with others. An
error names the header, and no frame of its traceback holds a value. It imports nothing of this library.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Latin-1 without control characters except the tab.
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*\Z")
_TARGET = re.compile(r"[!-~]+\Z")

FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that frame a request and control its connection; callers cannot set them."""

# The endings of names of headers whose values are keys.
_KEY_LIKE = ("authorization", "cookie", "credential", "credentials", "key", "passwd", "password", "secret", "token")


# Names that passed the check, and their canonical spelling: for most headers only the value is checked again.
_FIT: dict[Any, str] = {}
_MAX_FIT = 256


class Hidden(dict[str, Any]):
    """A dict whose repr shows its keys without their values."""

    __slots__ = ()

    def __repr__(self) -> str:
        names = [name if isinstance(name, str) and _NAME.fullmatch(name) else "?" for name in self]
        return f"<{type(self).__name__.lower()} {', '.join(names)}>"

    __str__ = __repr__


class Headers(Hidden):
    """Request headers whose repr shows their names alone, since one of the values is the key."""

    __slots__ = ()

    @classmethod
    def hiding(cls, given: Any) -> Headers:
        """Return `given` as headers that hide their values, to be checked by `checked`."""
        if isinstance(given, Headers):
            return given
        return cls(given) if isinstance(given, Mapping) else _NoHeaders(kind=type(given).__name__)

    def checked(self, option: str) -> Headers:
        """Return these headers with canonical names; `option` is the option that they were given in.

        Raises ValueError for a header that cannot be sent; it names the header and shows no value.
        """
        if isinstance(self, _NoHeaders):
            raise ValueError(f"{option} is a mapping of header names to values, not {self['kind']}")
        found = Headers()
        for name in self:
            spelled = _FIT.get(name)
            # No local variable holds a value, since a traceback may show them.
            if spelled is None or spelled in found or not _is_plain(self[name]):
                why = fault(name, self[name])
                if why is None and (spelled := name.title()) in found:
                    why = f"the header {spelled} cannot be sent: it is given twice"
                if why is not None:
                    name = spelled = ""
                    raise ValueError(f"{option}: {why}")
                assert spelled is not None
                if spelled != "Host" and len(_FIT) < _MAX_FIT:
                    _FIT[name] = spelled
            # The value of an enum's member too, and not its name.
            found[spelled] = str.__str__(self[name])
        return found


class _NoHeaders(Headers):
    __slots__ = ()


def _is_plain(value: Any) -> bool:
    return type(value) is str and value.isascii() and value.isprintable()


def keyless(made: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that takes keys: the traceback of its errors has no frame that holds the arguments."""

    @functools.wraps(made)
    def quiet(*args: P.args, **options: P.kwargs) -> T:
        try:
            return made(*args, **options)
        except Exception as error:  # noqa: BLE001  # raised again
            del args, options
            error.__context__ = None
            raise error.with_traceback(None) from None

    return quiet


def fault(name: Any, value: Any) -> str | None:
    """Return why a caller's header cannot be sent, without showing its value; None when it can."""
    if not isinstance(name, str):
        return f"a header cannot be sent: its name must be a str, not {type(name).__name__}"
    match = _NAME.match(name)
    if match is None or match.end() != len(name):
        # The text after the invalid character may be a value.
        begun = f" (it begins with {match[0]})" if match is not None else ""
        return f"a header cannot be sent: its name has more than letters, digits and hyphens in it{begun}"
    if name.lower() in FRAMING:
        return f"the header {name} cannot be sent: the library frames requests itself"
    if not isinstance(value, str):
        return f"the header {name} cannot be sent: its value must be a str, not {type(value).__name__}"
    if not _VALUE.match(value):
        return f"the header {name} cannot be sent: its value has a control character, or one outside Latin-1"
    if name.lower() == "host" and not _TARGET.match(value):
        return "the header Host cannot be sent: its value is not a host"
    return None


def sendable(headers: Mapping[str, str]) -> Headers:
    """Return the headers of a transport, names unchanged. Raises ValueError like `Headers.checked`."""
    hidden = Headers(headers)
    del headers
    hidden.checked("headers")
    return hidden


def joined(shared: Headers, own: Headers) -> Headers:
    """Return an endpoint's headers, replaced by a call's headers of the same name in any spelling."""
    both = Headers({**shared, **own})
    lowered = set(map(str.lower, both))
    if len(lowered) == len(both):
        # No name occurs in two spellings.
        return both
    replaced = {name.lower() for name in own}
    return Headers({**{name: shared[name] for name in shared if name.lower() not in replaced}, **own})


def check_target(method: str, target: str) -> None:
    """Raise ValueError for a method, or a path and query, that would break the request line."""
    if not _NAME.fullmatch(method) or not _TARGET.match(target):
        raise ValueError("the URL or method has a character that cannot be sent")


def secrets_in(headers: Mapping[str, str], named: Collection[str] = ()) -> list[str]:
    """Return the secrets in the values of `headers`; `named` are further names, in lower case, whose values are secret.

    From `Bearer abc` that is `abc`, from a cookie each value, from `Basic ...` also the decoded pair and the password.
    """
    found: list[str] = []
    for name, value in headers.items():
        lowered = name.lower()
        if not lowered.endswith(_KEY_LIKE) and lowered not in named:
            continue
        scheme, _, rest = value.partition(" ")
        if lowered == "cookie" and "=" in value:
            found += [pair.partition("=")[2].strip(' "') for pair in value.split(";")]
        elif rest and scheme.isascii() and scheme.replace("-", "").isalnum():
            found.append(rest.strip())
            if scheme.lower() == "basic":
                found += _basic(rest)
        else:
            found.append(value)
    return found


def _basic(coded: str) -> list[str]:
    try:
        pair = base64.b64decode(coded).decode()
    except ValueError:
        return []
    return [pair, pair.partition(":")[2]]


def text_of(line: bytes) -> str:
    """Return a line of a head as text: in UTF-8, as gateways write it, or else in Latin-1 (RFC 9110, 5.5)."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


class Fields(Mapping[str, str]):
    """The fields of a response by name, ignoring case; of several fields with one name, the first.

    It is iterated in lower case, as an httpx response's, so that a dict made of it has names to look up.
    """

    __slots__ = ("by_name",)

    def __init__(self, lines: dict[str, str]) -> None:
        self.by_name = lines
        """Name in lower case -> the whole line: a value is cut out when it is read, and most never are. Several
        responses may share it, so it is not changed."""

    def __getitem__(self, name: str) -> str:
        return _value(self.by_name[name.lower()])

    # These avoid Mapping's exceptions and generators, since the pipeline reads a dozen fields per call.

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        line = self.by_name.get(name)
        # The library's own look-ups are in lower case, and most of them find nothing.
        if line is None and (name.islower() or (line := self.by_name.get(name.lower())) is None):
            return default
        return _value(line)

    def __contains__(self, name: object) -> bool:
        if name in self.by_name:
            return True
        return isinstance(name, str) and not name.islower() and name.lower() in self.by_name

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    @classmethod
    def read(cls, raw: Iterable[tuple[bytes, bytes]]) -> Fields:
        """Return the fields that came with these names and values."""
        lines: dict[str, str] = {}
        for name, value in raw:
            line = text_of(b"%b: %b" % (name, value))
            lines.setdefault(line[: len(name)].lower(), line)
        return cls(lines)

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Fields:
        """Return the fields of another mapping."""
        lines: dict[str, str] = {}
        for name, value in headers.items():
            lines.setdefault(name.lower(), f"{name}: {value}")
        return cls(lines)

    @property
    def lines(self) -> Iterable[str]:
        """All fields as lines, `Name: value`."""
        return self.by_name.values()

    def mapped(self, change: Callable[[str], str]) -> Fields:
        """Return fields whose lines are `change(line)`; itself when no line changes."""
        lines = {name: change(line) for name, line in self.by_name.items()}
        return self if lines == self.by_name else Fields(lines)

    def __repr__(self) -> str:
        # The names alone: a value may be a cookie, or a key that the server echoes.
        return f"<Fields {', '.join(self)}>"


def amount(text: str | None) -> float | None:
    """Read a value as a finite number of at least 0; None for a missing value and for any other text."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    # `float` also reads "nan", "inf" and "-1".
    return number if 0 <= number < float("inf") else None


def _value(line: str) -> str:
    return line.partition(":")[2].strip(" \t")
