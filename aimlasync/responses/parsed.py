"""What type checkers take a parsed response for: `.parsed` has the type that was asked for.

At run time it is the response itself, so that nothing is made or copied for a type. It may import `responses.types`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aimlasync.responses.types import Response

T = TypeVar("T")

if TYPE_CHECKING:

    class ParsedResponse(Response, Generic[T]):
        """A response whose answer is a value of a type."""

        @property
        def parsed(self) -> T:
            """The value; None where the model called one of the caller's tools instead."""

        @property
        def output_parsed(self) -> T:
            """The same as `.parsed`."""

else:

    class ParsedResponse:
        """A response whose answer is a value of a type, as an annotation: `ParsedResponse[Ticket]`."""

        def __class_getitem__(cls, type_: Any) -> type[Response]:
            return Response
