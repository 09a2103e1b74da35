"""The errors of this library, as one tree; `wire.error_bodies` makes them from a vendor's error bodies.

    AimlasyncError                      .message .info .billed .retryable .run
    ├─ APIConnectionError               no usable reply
    │  ├─ APITimeoutError               .phase: total, connect, first_token, idle
    │  └─ TruncatedStreamError          .partial: what had arrived
    ├─ APIStatusError                   .status .body .code .retry_after: the server said no
    │  ├─ BadRequestError               400
    │  │  └─ UnsupportedRequestError    refused here, before anything was sent; also a ValueError
    │  │     └─ UnencodableRequestError JSON cannot carry what is in it; also a TypeError
    │  ├─ AuthenticationError           401
    │  ├─ InsufficientCreditError       402, or 403 out of credit
    │  ├─ PermissionDeniedError         403
    │  ├─ NotFoundError                 404
    │  ├─ ConflictError                 409
    │  ├─ UnprocessableEntityError      422
    │  ├─ RateLimitError                429
    │  └─ InternalServerError           5xx
    ├─ APIResponseValidationError       .raw: bytes that are not what the API promises
    │  └─ AnswerError                   .reply: an answer that `parse` cannot return as the type
    │     ├─ AnswerRefusedError         the model refused
    │     ├─ AnswerTruncatedError       cut by an output cap
    │     └─ AnswerInvalidError         not a value of the type
    ├─ StreamError                      .partial: an error inside a 200 stream
    ├─ ResponseFailedError              .reply: a background response that has no answer
    ├─ OverloadedError                  .retry_after: the client's own admission control refused the call
    └─ BudgetExceededError              the call could pass the spending cap
    ClientClosedError(RuntimeError)     misuse: the client is closed

No third-party exception is ever chained, since those of aiohttp carry the Authorization header, and no error holds a
secret. The names that AsyncOpenAI has besides are aliases: `OpenAIError` and `APIError` of AimlasyncError,
`LengthFinishReasonError` of AnswerTruncatedError, `ContentFilterFinishReasonError` of AnswerRefusedError. What tests
make by hand with the arguments of AsyncOpenAI's errors, `request=`, `response=` and `body=`, is made here too.
It has no I/O; it imports the type of `info`, and `http_response` when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

if TYPE_CHECKING:
    from aimlasync.http_response import HttpResponse
    from aimlasync.info import Info

E = TypeVar("E", bound=BaseException)

Phase = Literal["total", "connect", "first_token", "idle", "attempt"]


class AimlasyncError(Exception):
    """Root of the tree."""

    retryable: bool = False
    """Whether the same request may succeed when it is sent again."""
    run: Any = None
    """The state of an agent's run that this error ended; None outside of runs."""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    _body: Any = None

    def __init__(
        self,
        message: str,
        request: object = None,
        *,
        body: Any = None,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if body is not None:
            self._body = body
        self.info = info
        self.billed = billed
        """False when nothing was sent, or the vendor states that such failures are free; None when that is unknown."""

    def explain(self, why: str) -> None:
        """Append an explanation to the message."""
        self.message = f"{self.message}; {why}"
        self.args = (self.message,)

    @property
    def body(self) -> Any:
        """The body of the response, decoded where it is JSON, else a str; None without one.

        Of an object, `body["message"]` is also that of its `error`, which is all that AsyncOpenAI calls the body.
        """
        if not isinstance(self._body, dict):
            return self._body
        from aimlasync.http_response import ErrorBody

        return ErrorBody(self._body)

    @body.setter
    def body(self, body: Any) -> None:
        self._body = body

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are pickled between processes (Ray, multiprocessing), and the default would call __init__ with the
        # message alone.
        state = dict(vars(self))
        if self.info is not None:
            headers = {name.lower(): value for name, value in self.info.headers.items()}
            state["info"] = msgspec.structs.replace(self.info, headers=headers)
        return restored, (type(self), self.args), state

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, else the id that was sent, None without either."""
        if self.info is None:
            return None
        return self.info.inference_id or self.info.server_request_id or self.info.request_id or None


def in_one_line(error: object, most: int = 300) -> str:
    """Return the type and the words of an error, or a text, for a line of a log, cut at `most` characters.

    What could begin another line or move the cursor becomes a space: the words are those of others.
    """
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in str(error)).split())
    if isinstance(error, BaseException):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= most else f"{text[:most]}..."


def restored(cls: type[E], args: tuple[Any, ...]) -> E:
    """Return an error of a class without what its `__init__` takes, for its attributes to be set."""
    return cls.__new__(cls, *args)


class APIConnectionError(AimlasyncError):
    """The server could not be reached, or the connection broke before a usable reply."""

    retryable = True

    def __init__(
        self,
        message: str = "Connection error.",
        request: object = None,
        *,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, info=info, billed=billed)


class APITimeoutError(APIConnectionError):
    """A bound of `Timeout` passed: `.phase` names it, and `.partial` holds what a stream had delivered."""

    def __init__(
        self,
        message: str | object = "Request timed out.",
        request: object = None,
        *,
        phase: Phase = "total",
        partial: Any = None,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        # AsyncOpenAI's takes a request, and no message.
        super().__init__(message if isinstance(message, str) else "Request timed out.", info=info, billed=billed)
        self.phase: Phase = phase
        self.partial = partial
        self.retryable = phase not in ("total", "attempt")


class TruncatedStreamError(APIConnectionError):
    """A stream ended without its terminal event; `.partial` is what had arrived, assembled."""

    def __init__(
        self, message: str, *, partial: Any = None, info: Info | None = None, billed: bool | None = None
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.partial = partial


class APIStatusError(AimlasyncError):
    """The server answered with an error. Raises TypeError where it is made with neither a status nor a response."""

    _response: Any = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        response: Any = None,
        body: Any = None,
        raw: bytes = b"",
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        if response is not None:
            self._response = response
            status = response.status_code if status is None else status
            stated = body if isinstance(body, dict) else {}
            code, type, param = code or stated.get("code"), type or stated.get("type"), param or stated.get("param")
        if status is None:
            raise TypeError(f"{self.__class__.__name__} is made with status=, or with response=")
        self.status: int = status
        self._body = body
        self.raw = raw
        """The bytes of the body, up to 1 MiB."""
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        """Seconds the server asked to wait, None when it did not."""
        if retryable is not None:
            self.retryable = retryable

    @property
    def status_code(self) -> int:
        """`.status`, by the name that AsyncOpenAI uses."""
        return self.status

    @property
    def response(self) -> HttpResponse:
        """Status, headers and body, in the shape of an httpx.Response."""
        if self._response is not None:
            given: HttpResponse = self._response
            return given
        from aimlasync.http_response import HttpResponse

        return HttpResponse(self.status, {} if self.info is None else self.info.headers, self.raw)


class BadRequestError(APIStatusError):
    """400: the request is wrong and stays wrong."""


class UnsupportedRequestError(BadRequestError, ValueError):
    """The library refused the request; nothing was sent and nothing was billed.

    The usual reason is the provider table, which says that the vendor would refuse it.
    """


class UnencodableRequestError(UnsupportedRequestError, TypeError):
    """The request holds what JSON cannot carry, such as an object of an unknown type; nothing was sent."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, mistyped or revoked."""


class InsufficientCreditError(APIStatusError):
    """402, AI/ML API's 403, or an error in a 200 that says so: the account or key is out of credit."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""


class NotFoundError(APIStatusError):
    """404: no such path or model."""


class ConflictError(APIStatusError):
    """409: the request is at odds with another one, or with what the server keeps."""


class UnprocessableEntityError(APIStatusError):
    """422: ByteSpike's answer to a parameter that the model does not take."""


class RateLimitError(APIStatusError):
    """429: too many requests, tokens or calls at once."""

    retryable = True


class InternalServerError(APIStatusError):
    """5xx: the vendor or its upstream failed."""

    retryable = True


class APIResponseValidationError(AimlasyncError):
    """A successful status with bytes that are not what the API promises; `.raw` holds them."""

    def __init__(
        self,
        message: str,
        *,
        raw: bytes = b"",
        partial: Any = None,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.raw = raw
        self.partial = partial
        """What a stream had delivered before, None outside streams."""


class AnswerError(APIResponseValidationError):
    """`parse` got an answer that is no value of the type; `.reply` holds the complete reply, which was paid for."""

    def __init__(
        self,
        message: str = "the answer is no value of the type",
        *,
        reply: Any = None,
        completion: Any = None,
        raw: bytes = b"",
        info: Info | None = None,
    ) -> None:
        super().__init__(message, raw=raw, info=info, billed=True)
        self.reply = completion if reply is None else reply

    @property
    def completion(self) -> Any:
        """`.reply`, by the name that AsyncOpenAI uses."""
        return self.reply


class AnswerRefusedError(AnswerError):
    """The model refused, or a content filter cut the answer."""


class AnswerTruncatedError(AnswerError):
    """An output cap cut the answer: raise the cap, or ask for less."""


class AnswerInvalidError(AnswerError):
    """The answer is not a value of the type."""


class StreamError(AimlasyncError):
    """The server reported an error inside a stream that began with 200, or gave up in the middle of an answer.

    `code` is the server's word for it, which may be a finish reason, such as abort or network_error.
    """

    def __init__(
        self,
        message: str,
        *,
        partial: Any = None,
        code: str | None = None,
        type: str | None = None,
        retry_after: float | None = None,
        body: Any = None,
        retryable: bool = True,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.partial = partial
        self.code = code
        self.type = type
        self.retry_after = retry_after
        """Seconds the server asked to wait, None when it did not."""
        self._body = body
        self.retryable = retryable


class ResponseFailedError(AimlasyncError):
    """A background response ended without an answer; `.reply` is the response, whose `status` says how it ended.

    The status is "failed", "cancelled", or a word of the server's own, such as "expired".
    """

    def __init__(self, message: str, *, reply: Any, code: str | None = None, info: Info | None = None) -> None:
        super().__init__(message, info=info)
        self.reply = reply
        self.code = code
        """The code in the response's `error`, None when it states none."""


class OverloadedError(AimlasyncError):
    """The client's own admission control refused the call; nothing was sent."""

    def __init__(self, message: str, *, retry_after: float | None = None, info: Info | None = None) -> None:
        super().__init__(message, info=info, billed=False)
        self.retry_after = retry_after


class BudgetExceededError(AimlasyncError):
    """The call could pass the spending cap; nothing was sent."""


class ClientClosedError(RuntimeError):
    """The client was used after `close`."""


# The names that AsyncOpenAI has besides.
OpenAIError = APIError = AimlasyncError
LengthFinishReasonError = AnswerTruncatedError
ContentFilterFinishReasonError = AnswerRefusedError
