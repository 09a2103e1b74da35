"""Claims about images in the result of a tool: the model sees them, and the text says where they were."""

from __future__ import annotations

from typing import Any

import pytest

from aimlasync import agents
from aimlasync.agents import Image
from aimlasync.simulator import Call
from tests.support.scripted import ENDPOINTS, MODEL, calls, scripted, sent, told

PNG = Image.of(b"\x89PNG", "image/png")
URL = "https://example.org/a.jpg"


def camera(room: str) -> Image:
    """What the camera shows."""
    return PNG


def album() -> list[Any]:
    """Two pictures."""
    return ["first", Image(URL), {"n": 2}, PNG]


def described() -> list[Any]:
    """A picture with a text."""
    return [Image(URL), "a cat"]


def seen(run: agents.Run) -> list[str]:
    """The URLs of the images in the history."""
    if run.endpoint == "chat":
        messages = [item["content"] for item in run.items if isinstance(item.get("content"), list)]
        return [part["image_url"]["url"] for parts in messages for part in parts if part["type"] == "image_url"]
    outputs = [output for output in told(run) if isinstance(output, list)]
    return [part["image_url"] for output in outputs for part in output if part["type"] == "input_image"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_model_gets_the_images_of_a_tool_beside_its_text(endpoint: Any) -> None:
    asked = calls(Call.of("camera", room="hall"), Call.of("album"), Call.of("described"))
    async with scripted(asked, "A cat.") as (simulator, client):
        tools = [camera, album, described]
        run = await agents.run(client, model=MODEL, input="Look.", tools=tools, endpoint=endpoint)
        assert (run.output, run.turns) == ("A cat.", 2)
        assert seen(run) == [PNG.url, URL, PNG.url, URL]
        assert sent(simulator)[-1] == run.items[: len(sent(simulator)[-1])]
    texts = told(run) if endpoint == "chat" else [output[0]["text"] for output in told(run)]
    assert texts == ["[image]", '["first","[image]",{"n":2},"[image]"]', "[image]\na cat"]
    assert agents.Run.from_json(run.to_json()).items == run.items


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_images_of_a_call_survive_a_wait_for_another_one(endpoint: Any) -> None:
    @agents.tool(approve=True)
    def door() -> str:
        """Open the door."""
        return "open"

    asked = calls(Call.of("camera", room="hall"), Call.of("door"))
    async with scripted(asked, "Done.") as (_, client):
        run = await agents.run(client, model=MODEL, input="Look.", tools=[camera, door], endpoint=endpoint)
        assert run.status == "waiting"
        run = agents.Run.from_json(run.to_json())
        decided = {call.id: True for call in run.waiting}
        run = await agents.run(client, history=run, approvals=decided, tools=[camera, door])
        assert (run.output, seen(run)) == ("Done.", [PNG.url])


async def test_another_image_is_another_result() -> None:
    shots = iter(range(10))

    def look() -> Image:
        """Look."""
        return Image.of(bytes([next(shots)]))

    turns = [calls(Call.of("look")) for _ in range(6)]
    async with scripted(*turns, "Done.") as (_, client):
        run = await agents.run(client, model=MODEL, input="Look.", tools=[look], max_repeats=2)
        assert (run.output, len(seen(run))) == ("Done.", 6)
