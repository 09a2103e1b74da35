"""Claims about `errors`: which error a body becomes, what it says, and what it never shows."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aimlasync
from aimlasync import errors
from aimlasync.endpoints.providers import AIMLAPI, BYTESPIKE, Provider
from aimlasync.errors import (
    AimlasyncError,
    AnswerError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InsufficientCreditError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    StreamError,
    UnprocessableEntityError,
)
from aimlasync.info import Info
from aimlasync.wire.error_bodies import error_in_body, excerpt, status_error, stream_error
from aimlasync.wire.error_shapes import read_error
from aimlasync.wire.redaction import Secrets

JSON = dict[str, Any]

REQUEST_ID = "7d0c1f3e-52a4-4d0b-9f31-6f5a1f0e2b77"


def error(status: int, body: Any, **options: Any) -> APIStatusError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status_error(status, raw, **options)


def at(vendor: Provider, status: int, body: Any) -> APIStatusError:
    return error(
        status, body, out_of_credit=vendor.out_of_credit, failures_are_free=vendor.failures_are_free, info=Info()
    )


def flat(status: int | str, message: str) -> JSON:
    """The AI/ML API's five keys."""
    return {
        "requestId": REQUEST_ID,
        "statusCode": status,
        "timestamp": "2026-08-21T09:00:00.000Z",
        "path": "/v1/chat/completions",
        "message": message,
    }


# --- the tree ----------------------------------------------------------------------------------------------------

_DRAWN = re.compile(r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>\w+Error)(?:\((?P<base>\w+)\))?(?P<rest>.*)$", re.MULTILINE)


def drawing() -> list[tuple[str, str, str]]:
    """(name, name of its parent, what is said of it) for each line of the module's drawing."""
    above: list[str] = []
    found = []
    for line in _DRAWN.finditer(errors.__doc__ or ""):
        depth = len(line["branch"]) // 3
        del above[depth:]
        parent = line["base"] or (above[-1] if above else "Exception")
        found.append((line["name"], parent, line["rest"]))
        above.append(line["name"])
    return found


SAMPLES: dict[str, Exception] = {
    "AimlasyncError": AimlasyncError("x"),
    "APIConnectionError": errors.APIConnectionError("x"),
    "APITimeoutError": APITimeoutError("x", phase="idle"),
    "TruncatedStreamError": errors.TruncatedStreamError("x"),
    "APIResponseValidationError": errors.APIResponseValidationError("x"),
    "StreamError": StreamError("x"),
    "ResponseFailedError": errors.ResponseFailedError("x", reply=None),
    "OverloadedError": errors.OverloadedError("x"),
    "BudgetExceededError": errors.BudgetExceededError("x"),
    "ClientClosedError": errors.ClientClosedError("x"),
}


def sample(name: str) -> Exception:
    cls = getattr(errors, name)
    if name in SAMPLES:
        return SAMPLES[name]
    made = cls("x", reply=None) if issubclass(cls, AnswerError) else cls("x", status=400)
    assert isinstance(made, Exception)
    return made


def test_drawing_shows_every_error_and_no_other() -> None:
    names = [name for name, _, _ in drawing()]
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == errors.__name__
        # An alias is no error of its own.
        if value.__name__ == name
    }
    assert len(names) == len(set(names))
    assert set(names) == defined


@pytest.mark.parametrize(("name", "parent", "rest"), drawing(), ids=[name for name, _, _ in drawing()])
def test_every_error_stands_where_it_is_drawn_with_the_attributes_drawn(name: str, parent: str, rest: str) -> None:
    cls = getattr(errors, name)
    assert cls.__bases__[0].__name__ == parent
    for attribute in re.findall(r"(?<!\w)\.([a-z_]+)", rest.partition(":")[0]):
        assert hasattr(sample(name), attribute)


@pytest.mark.parametrize("name", [name for name, _, _ in drawing()])
def test_every_error_can_be_imported_from_the_package(name: str) -> None:
    assert getattr(aimlasync, name) is getattr(errors, name)
    assert name in aimlasync.__all__


def test_request_refused_here_is_also_a_value_error() -> None:
    assert issubclass(errors.UnsupportedRequestError, ValueError)


def test_misuse_is_no_error_of_the_api() -> None:
    assert not issubclass(errors.ClientClosedError, AimlasyncError)


# --- status to class ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "cls", "retryable"),
    [
        (400, BadRequestError, False),
        (401, AuthenticationError, False),
        (402, InsufficientCreditError, False),
        (403, PermissionDeniedError, False),
        (404, NotFoundError, False),
        (413, APIStatusError, False),
        (422, UnprocessableEntityError, False),
        (429, RateLimitError, True),
        (408, APIStatusError, True),
        (409, ConflictError, True),
        (418, APIStatusError, False),
        (425, APIStatusError, True),
        (301, APIStatusError, False),
        (500, InternalServerError, True),
        (502, InternalServerError, True),
        (503, InternalServerError, True),
        (504, InternalServerError, True),
        (529, InternalServerError, True),
    ],
)
def test_status_decides_the_class_and_whether_a_retry_may_help(
    status: int, cls: type[APIStatusError], retryable: bool
) -> None:
    failed = error(status, {"error": {"message": "no"}})
    assert type(failed) is cls
    assert (failed.status, failed.status_code, failed.retryable) == (status, status, retryable)
    assert str(failed) == failed.message == f"HTTP {status}: no"


# --- AI/ML API ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, "429"])
def test_flat_body_is_read_with_its_status_as_number_and_as_text(code: int | str) -> None:
    failed = at(AIMLAPI, 429, flat(code, "Too Many Requests"))
    assert type(failed) is RateLimitError
    assert (failed.message, failed.code, failed.type, failed.param) == ("HTTP 429: Too Many Requests", None, None, None)
    assert (failed.request_id, failed.retryable, failed.billed) == (REQUEST_ID, True, False)
    assert failed.body["path"] == "/v1/chat/completions"
    assert read_error(flat(code, "x")).status == 429


def test_upstream_error_inside_a_message_is_taken_out() -> None:
    upstream = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "the batch has ended", "code": "ended", "param": "id"},
        "request_id": "req_01",
    }
    failed = at(AIMLAPI, 400, flat(400, f"400 {json.dumps(upstream)}"))
    assert type(failed) is BadRequestError
    assert failed.message == "HTTP 400: the batch has ended"
    assert (failed.type, failed.code, failed.param) == ("invalid_request_error", "ended", "id")
    assert failed.request_id == REQUEST_ID


def test_request_id_of_the_upstream_is_used_where_there_is_no_other() -> None:
    message = '400 {"type":"error","error":{"message":"no"},"request_id":"req_01"}'
    assert at(AIMLAPI, 400, {"message": message}).request_id == "req_01"


@pytest.mark.parametrize("message", ["400 {not json}", "400 {}", "4000 {}", "see {this}"])
def test_message_that_only_looks_like_an_upstream_error_is_kept(message: str) -> None:
    assert at(AIMLAPI, 400, flat(400, message)).message == f"HTTP 400: {message}"


def test_validation_text_is_kept_line_by_line() -> None:
    text = "Body validation error!\nInvalid enum value. Expected 'low' | 'high', received 'huge'"
    failed = at(AIMLAPI, 400, flat(400, text))
    assert failed.message == f"HTTP 400: {text}"
    assert not failed.retryable


def test_missing_key_is_an_authentication_error() -> None:
    failed = at(AIMLAPI, 401, flat(401, "This request requires a valid API key."))
    assert type(failed) is AuthenticationError
    assert (failed.retryable, failed.billed) == (False, False)


def test_403_without_credit_is_an_insufficient_credit_error_at_aimlapi() -> None:
    text = "You've run out of credits. Please top up your balance or update your payment method to continue."
    failed = at(AIMLAPI, 403, flat(403, text))
    assert type(failed) is InsufficientCreditError
    assert (failed.status, failed.retryable, failed.billed) == (403, False, False)
    assert type(at(AIMLAPI, 403, flat("403", text.upper()))) is InsufficientCreditError


def test_other_403_is_a_permission_error() -> None:
    assert type(at(AIMLAPI, 403, flat(403, "This route needs a management key"))) is PermissionDeniedError
    assert type(at(AIMLAPI, 403, b"")) is PermissionDeniedError


@pytest.mark.parametrize("body", [b"", b"   ", b"\r\n"])
def test_empty_body_is_said_to_be_empty(body: bytes) -> None:
    failed = at(AIMLAPI, 400, body)
    assert failed.message == "HTTP 400: the response had no body"
    assert (failed.code, failed.billed) == (None, False)


def test_html_page_is_an_excerpt_without_tags_scripts_and_styles() -> None:
    page = (
        b"<html><head><title>502 Bad Gateway</title><style>h1 {color: red}</style><script>var key = '<b>';</script>"
        b"</head><body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr>nginx</body></html>"
    )
    failed = at(AIMLAPI, 502, page)
    assert type(failed) is InternalServerError
    assert failed.message == "HTTP 502: 502 Bad Gateway 502 Bad Gateway nginx"
    assert failed.retryable


def test_long_text_is_cut_in_the_message_and_kept_in_the_body() -> None:
    failed = error(500, b"word " * 1000)
    assert len(failed.message) < 250
    assert failed.message.endswith("...")
    assert failed.body == "word " * 1000


@pytest.mark.parametrize(
    ("status", "message", "retryable"),
    [
        (429, "Too Many Requests", True),
        (429, "Free-tier limit: You've reached your free limit for the hour.", False),
        (429, "You've used all the included free usage", False),
        (500, "Internal server error", True),
        (500, "Something wrong with the server. Please, try again later.", True),
        (500, "The model is under maintenance, please contact us at help@aimlapi.com.", False),
        (500, "Coupon code not found", False),
        (502, "Bad Gateway", True),
        (503, "Service unavailable", True),
        (504, "Generation timeout", True),
    ],
)
def test_documented_texts_of_aimlapi_that_waiting_cures_are_retryable(
    status: int, message: str, retryable: bool
) -> None:
    assert at(AIMLAPI, status, flat(status, message)).retryable is retryable


@pytest.mark.parametrize(
    ("status", "message", "retryable"),
    [
        # llama.cpp
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", False),
        (501, "This server does not support embeddings. Start it with `--embeddings`", False),
        (501, "", False),
        (500, "Unsupported content part", False),
        (500, "the request exceeds the available context size. try increasing the context size", False),
        (500, "Context size has been exceeded.", True),
        (500, "the support team was told", True),
    ],
)
def test_a_5xx_that_does_not_support_what_was_asked_is_not_tried_again(
    status: int, message: str, retryable: bool
) -> None:
    assert error(status, {"error": {"message": message}}).retryable is retryable


# --- ByteSpike, OpenAI and others --------------------------------------------------------------------------------


def test_bytespike_rate_limit_has_a_type_and_no_code() -> None:
    said = "rate_limit_5h exceeded: 50.00 / 50.00 used; resets at 2026-05-25 14:00:00 UTC"
    failed = at(BYTESPIKE, 429, {"error": {"type": "rate_limit_error", "message": said}})
    assert type(failed) is RateLimitError
    assert (failed.message, failed.type, failed.code, failed.param) == (
        f"HTTP 429: {said}",
        "rate_limit_error",
        None,
        None,
    )
    assert (failed.retryable, failed.billed) == (True, False)


@pytest.mark.parametrize("code", ["insufficient_balance", "quota_exceeded"])
def test_bytespike_402_is_an_insufficient_credit_error(code: str) -> None:
    failed = at(BYTESPIKE, 402, {"error": {"code": code, "message": "top up"}})
    assert type(failed) is InsufficientCreditError
    assert (failed.code, failed.retryable, failed.billed) == (code, False, False)


def test_bytespike_403_is_never_about_credit() -> None:
    failed = at(BYTESPIKE, 403, {"error": {"code": "model_not_in_group", "message": "you've run out of credits"}})
    assert (type(failed), failed.code) == (PermissionDeniedError, "model_not_in_group")


def test_bytespike_concurrency_limit_is_retryable_and_its_422_is_not() -> None:
    assert at(BYTESPIKE, 429, {"error": {"code": "concurrency_limit", "message": "x"}}).retryable
    failed = at(BYTESPIKE, 422, {"error": {"code": "invalid_param", "message": "x", "param": "top_k"}})
    assert (type(failed), failed.param, failed.retryable) == (UnprocessableEntityError, "top_k", False)


def test_openai_body_gives_all_four_fields() -> None:
    body = {"error": {"message": "bad model", "type": "invalid_request_error", "param": "model", "code": "model_gone"}}
    failed = error(404, body)
    assert type(failed) is NotFoundError
    assert (failed.message, failed.type, failed.param, failed.code) == (
        "HTTP 404: bad model",
        "invalid_request_error",
        "model",
        "model_gone",
    )
    assert failed.body == body
    assert (failed.billed, failed.request_id) == (None, None)


def test_openai_quota_429_is_not_retryable() -> None:
    body = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None}}
    assert not error(429, body).retryable
    assert not error(429, {"error": {"message": "x", "code": "insufficient_quota"}}).retryable


def test_openai_402_without_a_list_of_texts_is_an_insufficient_credit_error() -> None:
    assert type(error(402, {"error": {"message": "pay"}})) is InsufficientCreditError


def test_fastapi_detail_is_read_as_text_and_as_a_list() -> None:
    assert error(404, {"detail": "Not Found"}).message == "HTTP 404: Not Found"
    detail = [
        {"type": "missing", "loc": ["body", "model"], "msg": "Field required"},
        {"type": "int_parsing", "loc": ["body", "n"], "msg": "Input should be an integer"},
    ]
    failed = error(422, {"detail": detail})
    assert failed.message == "HTTP 422: Field required; Input should be an integer"
    assert failed.body == {"detail": detail}


def test_vllm_error_object_is_read() -> None:
    body = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}
    failed = error(400, body)
    assert (failed.message, failed.type, failed.code, failed.param) == (
        "HTTP 400: too long",
        "BadRequestError",
        "400",
        None,
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "model not found"}, "model not found"),
        ({"message": ["a must be set", "b must be set"]}, "a must be set; b must be set"),
        ({"msg": "short"}, "short"),
        ({"error": {"message": {"message": "deep"}}}, "deep"),
        ({"error": {"code": 5}, "message": "outside"}, "outside"),
        ("just text", "just text"),
        ([1, 2], "[1, 2]"),
        (None, "null"),
        ({"error": None}, '{"error": null}'),
        ({"error": {"message": 7}}, '{"error": {"message": 7}}'),
    ],
)
def test_message_is_found_in_other_shapes_or_the_body_shown(body: Any, said: str) -> None:
    assert error(400, body).message == f"HTTP 400: {said}"


@pytest.mark.parametrize(
    ("code", "wanted"), [("x", "x"), (429, "429"), ("", None), (None, None), (True, None), ([], None)]
)
def test_code_is_text_or_none(code: Any, wanted: str | None) -> None:
    assert error(400, {"error": {"message": "m", "code": code}}).code == wanted


def test_retry_after_is_kept_and_is_none_when_not_stated() -> None:
    assert error(429, b"", retry_after=2.5).retry_after == 2.5
    assert error(429, b"").retry_after is None


def test_servers_word_on_retrying_beats_the_status() -> None:
    assert not error(503, b"", should_retry=False).retryable
    assert not error(429, b"", should_retry=False).retryable
    assert error(429, b"", should_retry=True).retryable


def test_text_that_waiting_does_not_cure_beats_the_servers_word() -> None:
    assert not error(500, {"message": "under maintenance"}, should_retry=True).retryable


@pytest.mark.parametrize(
    ("status", "body", "wait", "retryable"),
    [
        (503, "<html>Scheduled maintenance, back in a minute</html>", 60.0, True),
        (503, "<html>Scheduled maintenance</html>", None, False),
        (503, {"error": {"message": "under maintenance", "retry_after": 5}}, None, True),
        (429, {"error": {"message": "You exceeded your current quota"}}, 2.0, True),
        (429, {"error": {"message": "You exceeded your current quota"}}, None, False),
        # The code says what the text may not.
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, 2.0, False),
        (500, {"error": {"message": "Coupon code not found"}}, 2.0, False),
        (500, {"error": {"message": "The model is under maintenance"}}, 2.0, False),
    ],
)
def test_a_stated_wait_says_that_waiting_cures(status: int, body: Any, wait: float | None, retryable: bool) -> None:
    failed = status_error(
        status, body.encode() if isinstance(body, str) else json.dumps(body).encode(), retry_after=wait
    )
    assert failed.retryable is retryable


# --- ids ---------------------------------------------------------------------------------------------------------


def test_request_id_is_the_inference_id_before_the_servers_before_ours() -> None:
    info = Info(request_id="ours")
    failed = error(400, b"", info=info)
    assert failed.request_id == "ours"
    info.server_request_id = "theirs"
    assert failed.request_id == "theirs"
    info.inference_id = "ledger"
    assert failed.request_id == "ledger"
    assert AimlasyncError("x").request_id is None
    assert AimlasyncError("x", info=Info()).request_id is None


# --- the key -----------------------------------------------------------------------------------------------------

KEY = "0f3a9c55d1e24b7788aa66cc33ee1100"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": KEY, "param": KEY}},
        flat(401, f"key {KEY} revoked"),
        {"message": f'401 {{"error": {{"message": "bad {KEY}"}}}}'},
        {"detail": [{"msg": "m", "input": {"Authorization": f"Bearer {KEY}"}}]},
        {KEY: KEY},
        f"<p>{KEY}</p>".encode(),
        KEY.encode(),
        b"\xff" + KEY.encode(),
    ],
)
def test_key_that_the_server_echoes_is_kept_nowhere(body: Any) -> None:
    info = Info()
    failed = error(401, body, info=info)
    Secrets([KEY]).redact(failed)
    shown = (str(failed), repr(failed), failed.message, repr(failed.body), repr(vars(failed)), repr(info), failed.args)
    assert KEY not in repr(shown)
    assert "[key]" in repr(shown)


@pytest.mark.parametrize("raw", [KEY.encode(), b"\xff<" + KEY.encode() + b">"])
def test_key_is_cut_out_of_raw_bytes(raw: bytes) -> None:
    failed = errors.APIResponseValidationError(f"no JSON: {KEY}", raw=raw)
    Secrets([KEY]).redact(failed)
    assert KEY not in repr((failed, vars(failed)))
    assert failed.raw == raw.replace(KEY.encode(), b"[key]")


@pytest.mark.parametrize("body", [{"error": {"message": f"key {KEY}", "code": KEY}}, {"message": KEY, "list": [[KEY]]}])
def test_key_is_cut_out_of_errors_under_a_200_and_inside_streams(body: JSON) -> None:
    for failed in (
        error_in_body(body, raw=json.dumps(body).encode(), info=None, billed=None),
        stream_error(body, partial=None, info=None, billed=None),
    ):
        Secrets([KEY]).redact(failed)
        assert KEY not in repr((failed, vars(failed)))


@pytest.mark.parametrize("body", [{"message": "a \\/ b"}, [1, None, 2.5, True], 7, None, "text"])
def test_body_without_the_key_is_left_as_it_was(body: Any) -> None:
    failed = error(400, body)
    before = (failed.message, failed.body)
    Secrets([KEY]).redact(failed)
    assert (failed.message, failed.body) == before


@pytest.mark.parametrize("placeholder", ["", "x", "test", "EMPTY", "ollama"])
def test_placeholder_for_a_key_changes_no_word_of_a_message(placeholder: str) -> None:
    failed = error(400, {"message": "text: the test of ollama has an EMPTY prompt"})
    Secrets([placeholder]).redact(failed)
    assert failed.message == "HTTP 400: text: the test of ollama has an EMPTY prompt"


# --- errors under a 200 and inside streams -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "cls", "status", "retryable"),
    [
        ({"error": {"message": "m", "code": 429}}, RateLimitError, 429, True),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, InsufficientCreditError, 402, False),
        ({"error": {"message": "Insufficient Balance"}}, InsufficientCreditError, 402, False),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient funds"}}, InsufficientCreditError, 402, False),
        ({"error": {"message": "m", "code": "quota_exceeded"}}, APIStatusError, 200, False),
        ({"error": {"message": "m", "code": 503}}, InternalServerError, 503, True),
        ({"error": {"message": "under maintenance", "code": 503}}, InternalServerError, 503, False),
        ({"object": "error", "message": "m", "code": 400}, BadRequestError, 400, False),
        ({"statusCode": "401", "message": "m", "error": None}, AuthenticationError, 401, False),
        ({"error": "m"}, APIStatusError, 200, False),
    ],
)
def test_error_under_a_200_takes_the_class_of_the_status_its_body_names(
    body: JSON, cls: type[APIStatusError], status: int, retryable: bool
) -> None:
    failed = error_in_body(body, raw=b"{}", info=None, billed=False)
    assert type(failed) is cls
    assert (failed.status, failed.retryable, failed.billed, failed.body) == (status, retryable, False, body)


@pytest.mark.parametrize(
    ("body", "code", "retryable"),
    [
        ({"error": {"message": "overloaded", "type": "server_error", "code": None}}, None, True),
        ({"type": "error", "code": "server_error", "message": "boom", "param": None}, "server_error", True),
        ({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "slow"}}, "rate_limit_exceeded", True),
        ({"error": {"message": "m", "code": 400}}, "400", False),
        ({"error": {"message": "m", "code": 429}}, "429", True),
        ({"error": {"message": "m", "code": 502}}, "502", True),
        ({"error": {"message": "m", "code": "context_length_exceeded"}}, "context_length_exceeded", False),
        ({"error": {"message": "m", "type": "invalid_request_error"}}, None, False),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, "insufficient_quota", False),
        ({"error": {"message": "The model is under maintenance"}}, None, False),
        # llama.cpp
        ({"error": {"message": "m", "type": "exceed_context_size_error"}}, None, False),
        ({"error": {"message": "request (9 tokens) exceeds the available context size (8 tokens)"}}, None, False),
        ({"error": {"message": "Context size has been exceeded.", "code": 500}}, "500", True),
        ({"error": "plain"}, None, True),
    ],
)
def test_error_inside_a_stream_is_retryable_unless_the_request_is_at_fault(
    body: JSON, code: str | None, retryable: bool
) -> None:
    failed = stream_error(body, partial="half", info=None, billed=None)
    assert (failed.code, failed.retryable, failed.partial, failed.body) == (code, retryable, "half", body)
    assert read_error(body).message in failed.message


def test_error_inside_a_stream_without_words_says_so() -> None:
    assert stream_error({"error": {}}, partial=None, info=None, billed=None).message.endswith("no message")


@pytest.mark.parametrize(
    ("phase", "retryable"), [("total", False), ("connect", True), ("first_token", True), ("idle", True)]
)
def test_only_the_total_bound_is_final(phase: Any, retryable: bool) -> None:
    assert APITimeoutError("x", phase=phase).retryable is retryable


def test_answer_that_cannot_be_parsed_was_paid_for() -> None:
    failed = AnswerError("x", reply=3, raw=b"{}")
    assert (failed.reply, failed.raw, failed.billed, failed.retryable) == (3, b"{}", True, False)


def test_call_refused_by_ourselves_is_free() -> None:
    assert errors.OverloadedError("x", retry_after=1.0).billed is False


# --- nothing a server sends breaks the reading of it -------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3))
names = st.sampled_from(
    ["error", "message", "detail", "code", "type", "param", "requestId", "statusCode", "msg", "status"]
)
bodies = st.recursive(
    values | st.just('400 {"error":{"message":"x"}}'), lambda v: st.dictionaries(names, v, max_size=5), max_leaves=10
)


@settings(max_examples=200, deadline=None)
@given(st.integers(300, 599), st.binary(max_size=200))
def test_any_bytes_are_some_error(status: int, body: bytes) -> None:
    failed = status_error(status, body, out_of_credit=AIMLAPI.out_of_credit, info=Info())
    assert failed.status == status
    assert failed.message.startswith(f"HTTP {status}: ")
    assert len(failed.message) > len("HTTP 400: ")


@settings(max_examples=200, deadline=None)
@given(bodies)
def test_any_json_is_some_error_everywhere(body: Any) -> None:
    raw = json.dumps(body).encode()
    for failed in (
        status_error(400, raw, info=Info()),
        error_in_body(body, raw=raw, info=None, billed=None),
        stream_error(body, partial=None, info=None, billed=None),
    ):
        Secrets([KEY]).redact(failed)
        code = failed.code
        assert isinstance(failed.message, str)
        assert code is None or isinstance(code, str)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="<>/script abc\n", max_size=600))
def test_excerpt_is_one_short_line(text: str) -> None:
    short = excerpt(text)
    assert len(short) <= 203
    assert "\n" not in short
