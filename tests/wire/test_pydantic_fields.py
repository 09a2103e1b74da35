"""Structs in pydantic's models: as fields, in fields of any type, and as what FastAPI returns."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, cast

import pytest

pytest.importorskip("pydantic", reason="pip install 'aimlasync[test]' has what these tests need")

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from aimlasync.chat import ChatCompletion, Message, ParsedChatCompletion
from aimlasync.chat.types import decode_completion
from aimlasync.responses import Response
from aimlasync.responses.types import decode_response
from aimlasync.wire.objects import Unknown
from tests.wire.test_dumped import CHAT, RESPONSE

REPLY = decode_completion(json.dumps(CHAT).encode())
NEW_ITEM = {"type": "telepathy_call", "id": "t", "mood": None, "thought": {"of": "tea", "depth": None}}
RESPONSE_WITH_NEW = decode_response(json.dumps({**RESPONSE, "output": [*RESPONSE["output"], NEW_ITEM]}).encode())


class Record(BaseModel):
    reply: ChatCompletion
    message: Message | None = None
    response: Response | None = None
    parsed: ParsedChatCompletion[Any] | None = None
    anything: Any = None
    items: list[Any] = []


FULL = Record(
    reply=REPLY,
    message=REPLY.choices[0].message,
    response=RESPONSE_WITH_NEW,
    parsed=cast(Any, REPLY),
    anything={"in": [REPLY.usage]},
    items=RESPONSE_WITH_NEW.output,
)


def test_a_field_holds_the_struct_that_it_was_given() -> None:
    assert FULL.reply is REPLY
    assert FULL.model_copy(deep=True) == FULL


def test_a_model_dumps_structs_as_they_dump_themselves() -> None:
    dumped = FULL.model_dump()
    assert REPLY.usage is not None
    assert dumped["reply"] == REPLY.model_dump()
    assert dumped["anything"] == {"in": [REPLY.usage.model_dump()]}
    assert dumped["items"][-1] == NEW_ITEM
    assert json.loads(FULL.model_dump_json()) == dumped
    sparse = FULL.model_dump(exclude_none=True)
    assert sparse["reply"] == REPLY.model_dump(exclude_none=True)
    assert sparse["items"][-1] == {"type": "telepathy_call", "id": "t", "thought": {"of": "tea", "depth": None}}
    assert to_jsonable_python([REPLY]) == [REPLY.model_dump()]


def test_a_model_is_read_back_from_its_json() -> None:
    again = Record.model_validate_json(FULL.model_dump_json(exclude_unset=True))
    assert again.reply == REPLY
    assert again.message is not None
    assert again.message.tool_calls is not None
    assert again.message.tool_calls[0].function.name == "f"
    assert again.response is not None
    assert isinstance(again.response.output[-1], Unknown)
    assert TypeAdapter(list[ChatCompletion]).validate_json(f"[{REPLY.to_json()}]") == [REPLY]


@pytest.mark.parametrize("wrong", [3, "{}", ["choices"]])
def test_what_is_no_object_is_an_error_of_validation(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="ChatCompletion is made of a JSON object"):
        Record(reply=wrong)
    with pytest.raises(ValueError, match="ChatCompletion is made of a JSON object"):
        ChatCompletion.model_validate(wrong)


def test_a_reply_is_restored_by_the_methods_of_pydantic() -> None:
    assert ChatCompletion.model_validate(REPLY.to_dict()) == REPLY
    assert ChatCompletion.model_validate_json(REPLY.to_json()) == REPLY
    assert ChatCompletion.model_validate(REPLY) is REPLY


def test_items_and_objects_without_a_struct_dump_themselves_too() -> None:
    item, metadata = RESPONSE_WITH_NEW.output[-1], REPLY.vendor  # type: ignore[attr-defined]
    assert item.model_dump() == item.to_dict() == NEW_ITEM
    assert json.loads(item.model_dump_json(exclude={"id"})) == {k: v for k, v in NEW_ITEM.items() if k != "id"}
    assert (metadata.model_dump(), metadata.model_dump(exclude_none=True)) == ({"a": None}, {})
    assert item.to_json(indent=1) == json.dumps(NEW_ITEM, indent=1)


def test_fastapi_returns_and_takes_structs() -> None:
    fastapi = pytest.importorskip("fastapi", reason="pip install 'aimlasync[test]' has what these tests need")
    from fastapi.testclient import TestClient

    async def reply() -> ChatCompletion:
        return REPLY

    async def record() -> Record:
        return FULL

    async def roles(messages: list[Message]) -> list[str]:
        return [message.role for message in messages]

    app = fastapi.FastAPI()
    app.add_api_route("/reply", reply)
    app.add_api_route("/record", record, response_model_exclude_none=True)
    app.add_api_route("/roles", roles, methods=["POST"])
    browser = TestClient(app)
    assert browser.get("/reply").json() == REPLY.model_dump()
    assert browser.get("/record").json() == FULL.model_dump(exclude_none=True)
    assert browser.post("/roles", json=[{"role": "assistant", "content": "Hi"}]).json() == ["assistant"]
    assert browser.post("/roles", json=["Hi"]).status_code == 422
    said = browser.get("/openapi.json").json()["paths"]["/reply"]["get"]["responses"]["200"]
    assert said["content"]["application/json"]["schema"]["type"] == "object"


def test_nobody_needs_pydantic_for_it() -> None:
    code = (
        "import sys; import aimlasync.chat, aimlasync.responses;"
        "r = aimlasync.chat.ChatCompletion.model_validate({'choices': []}); r.model_dump(); r.to_json(indent=1);"
        "assert not [name for name in sys.modules if name.startswith('pydantic')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
