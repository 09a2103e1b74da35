"""What was meant by a name of an option that there is not: the error names the nearest, or all that there are.

It imports nothing of this library.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

P = ParamSpec("P")
T = TypeVar("T")

# Names that mean the same elsewhere and are spelled otherwise: at OpenAI's endpoints, at agents of others, as options
# of the command line. Where the second name is not known either, what that stands for is looked for.
_ALSO = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "max_output_tokens": "max_completion_tokens",
    "reasoning_effort": "reasoning",
    "system_prompt": "instructions",
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "requests_per_minute": "limits",
    "tokens_per_minute": "limits",
    "concurrency": "limits",
    "ttft": "first_token",
    "url": "base_url",
    "max_usd": "caps",
    "temperature": "params",
}


def close_to(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" where one of the `known` names is another for `name` or spelled like it, else ""."""
    import difflib

    known = [*known]
    also = _ALSO.get(name, "")
    close = [each for each in (also, _ALSO.get(also)) if each in known]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f", did you mean {close[0]!r}?" if close else ""


def _misspelt(of: str, options: Mapping[str, Any], known: Iterable[str]) -> TypeError | None:
    """Return the error of the first option that is not known, None where all are."""
    known = [*known]
    for name in options:
        if name not in known:
            return TypeError(f"{of} has no option {name!r}{close_to(name, known) or '; it has ' + ', '.join(known)}")
    return None


class Spelled(msgspec.StructMeta):
    """The metaclass of a struct of options."""

    if not TYPE_CHECKING:  # with it, checkers would take any option

        def __call__(cls, *args: Any, **options: Any) -> Any:
            """Make a struct. Raises TypeError for an option that there is not, with the one that was meant."""
            try:
                return super().__call__(*args, **options)
            except TypeError:
                if (error := _misspelt(cls.__name__, options, cls.__struct_fields__)) is None:
                    raise
            raise error


def spelled(made: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function of options, or the `__init__` of a class, so that it says which option was meant."""

    @functools.wraps(made)
    def checked(*args: P.args, **options: P.kwargs) -> T:
        try:
            return made(*args, **options)
        except TypeError:
            of = made.__qualname__.removesuffix(".__init__")
            known = [name for name in inspect.signature(made).parameters if name not in ("self", "cls")]
            if (error := _misspelt(of, options, known)) is None:
                raise
        # They may hold keys, which a traceback would keep.
        del args, options
        raise error

    return checked


def spelled_fields(made: type[T]) -> type[T]:
    """Decorate a dataclass of options so that it does the same."""
    made.__init__ = spelled(made.__init__)  # type: ignore[method-assign]
    return made
