"""What type checkers take a parsed completion for: `.parsed` has the type that was asked for.

At run time it is the completion itself, so that nothing is made or copied for a type. It may import `chat.types`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aimlasync.chat.types import ChatCompletion, Choice, Message

T = TypeVar("T")

if TYPE_CHECKING:

    class ParsedMessage(Message, Generic[T], kw_only=True):
        """The message of a parsed completion."""

        @property
        def parsed(self) -> T:
            """The value; None where the model called one of the caller's tools instead."""

    class ParsedChoice(Choice, Generic[T], kw_only=True):
        """A choice of a parsed completion."""

        message: ParsedMessage[T]

    class ParsedChatCompletion(ChatCompletion, Generic[T], kw_only=True):
        """A completion whose answer is a value of a type."""

        choices: list[ParsedChoice[T]]  # type: ignore[assignment]

        @property
        def parsed(self) -> T:
            """The value of the first choice; None where the model called one of the caller's tools instead."""

else:

    class ParsedChatCompletion:
        """A completion whose answer is a value of a type, as an annotation: `ParsedChatCompletion[Ticket]`."""

        def __class_getitem__(cls, type_: Any) -> type[ChatCompletion]:
            return ChatCompletion
