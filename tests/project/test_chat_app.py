"""The example's page in a real browser: what a reader sees, types and hears, with the simulator's ledger as judge."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.servers import until

pytest.importorskip("playwright", reason="pip install 'aimlasync[test]' has what these tests need")
pytest.importorskip("fastapi", reason="pip install 'aimlasync[test]' has what these tests need")
pytest.importorskip("sse_starlette", reason="pip install 'aimlasync[test]' has what these tests need")

from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from aimlasync import AsyncClient, Endpoint, Limits, Retry
from aimlasync.simulator import Fault, Latency, Simulator, serve_in_thread
from tests.support.web import serving

APP = Path(__file__).parents[2] / "examples" / "chat_app" / "app.py"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LONG = "one two three four five six seven eight nine ten " * 40
ENDLESS = LONG * 20
"""What nobody is there to see the end of, when it comes slowly."""
SLOW = Latency.of(ttft=0.0, tokens_per_second=60)
# However slow the machine is.
expect.set_options(timeout=60_000)
CHROMIUMS_OWN = re.compile(r"Failed to load resource: (the server responded with a status of [45]|net::ERR_FAILED)")


def load() -> Any:
    spec = importlib.util.spec_from_file_location("chat_app_example", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # FastAPI looks up the names of annotations there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


app = load()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    # One loop for the browser that all tests share.
    return "asyncio"


@pytest.fixture(scope="module")
async def chromium(anyio_backend: str) -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path: apt-get install chromium runs these tests")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
async def tab(chromium: Browser) -> Page:
    """One tab for all: each test's server is an origin of its own, with a storage of its own."""
    return await chromium.new_page()


@dataclass
class Visit:
    """A page, the vendor behind it, and the app's client."""

    page: Page
    simulator: Simulator
    client: AsyncClient
    complaints: list[str] = field(default_factory=list)

    @property
    def answer(self) -> Locator:
        """The newest answer."""
        return self.page.locator(".markdown").last

    @property
    def question(self) -> Locator:
        return self.page.get_by_label("Your question")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def ask(self, text: str = "Hello") -> None:
        await self.question.fill(text)
        await self.question.press("Enter")

    async def ended(self) -> None:
        # Looks more often than `expect` does.
        await self.button("Send").wait_for()


@asynccontextmanager
async def visiting(
    page: Page,
    *,
    faults: Sequence[Fault] = (),
    size: tuple[int, int] = (1280, 800),
    path: str = "/",
    **options: Any,
) -> AsyncIterator[Visit]:
    """Open the page; `answer` and `latency` are the simulator's, all else the client's.

    The console stays empty, but for what Chromium itself notes of a refused request.
    """
    made: list[AsyncClient] = []

    def make(**options: Any) -> AsyncClient:
        made.append(AsyncClient(**options))
        return made[0]

    sim = {name: options.pop(name) for name in ("answer", "latency") if name in options}
    async with Simulator(faults=faults, keep_bodies=True, **sim) as simulator:
        endpoint = Endpoint.aimlapi(api_key="test", base_url=simulator.base_url)
        made_app = app.make_app(make=make, endpoints=[endpoint], **{"retry": Retry(attempts=1), **options})
        async with serving(made_app) as server:
            visit = Visit(page, simulator, made[0])
            listeners: dict[Any, Any] = {
                "console": lambda said: visit.complaints.append(said.text),
                "pageerror": lambda error: visit.complaints.append(str(error)),
            }
            for event, listener in listeners.items():
                page.on(event, listener)
            await page.set_viewport_size({"width": size[0], "height": size[1]})
            app.RUNS.clear()
            await page.goto(server.url + path)
            try:
                yield visit
            finally:
                await page.unroute_all()
                # A later server may get the same port, and with it this one's storage.
                await page.evaluate("fresh.click()")
                await page.goto("about:blank")
                for event, listener in listeners.items():
                    page.remove_listener(event, listener)
            refused = bool(faults) or "max_queue" in options
            assert [said for said in visit.complaints if not (refused and CHROMIUMS_OWN.match(said))] == []


# --- streaming and stopping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["Escape", "the button"])
async def test_text_grows_and_stopping_cancels_the_vendors_call(tab: Page, how: str) -> None:
    async with visiting(tab, latency=SLOW, answer=lambda _: ENDLESS) as visit:
        await visit.ask()
        lengths: list[int] = []

        async def look() -> bool:
            length = len(await visit.answer.inner_text())
            if length and length not in lengths:
                lengths.append(length)
            return len(lengths) == 4

        while not await look():
            assert not any(attempt.finished for attempt in visit.simulator.ledger)
        assert lengths == sorted(lengths)
        if how == "Escape":
            await visit.page.keyboard.press("Escape")
        else:
            await visit.button("Stop").click()
        await visit.ended()
        await until(lambda: any(attempt.disconnected for attempt in visit.simulator.ledger))
        assert ENDLESS.startswith(await visit.answer.inner_text())
        await expect(visit.page.get_by_text("You stopped this answer.").first).to_be_visible()
        await expect(visit.question).to_be_focused()
        await until(lambda: visit.client.statistics()[0].in_flight == 0)


async def test_stopping_before_the_first_token_cancels_too(tab: Page) -> None:
    async with visiting(tab, faults=[Fault("stall", times=1)]) as visit:
        await visit.ask()
        await until(lambda: len(visit.simulator.ledger) == 1)
        await expect(visit.page.get_by_label("Waiting")).to_be_visible()
        await visit.page.keyboard.press("Escape")
        await until(lambda: any(attempt.disconnected for attempt in visit.simulator.ledger))
        await visit.button("Try again").click()
        await expect(visit.answer).to_contain_text("Hello")
        await visit.ended()
        await expect(visit.button("Try again")).to_have_count(0)


async def test_a_screen_reader_hears_paragraphs_and_not_tokens(tab: Page) -> None:
    answer = "First **paragraph** of many words.\n\n- a list\n- of two\n\n```\ncode\n```\n\nThe last one."
    latency = Latency.of(tokens_per_second=200)
    async with visiting(tab, latency=latency, answer=lambda _: answer) as visit:
        await visit.page.evaluate(
            "window.heard = [];"
            "new MutationObserver((all) => window.heard.push(...all.flatMap((one) => [...one.addedNodes])"
            ".map((node) => node.textContent)))"
            ".observe(document.getElementById('spoken'), {childList: true, subtree: true, characterData: true})"
        )
        await visit.ask()
        await visit.ended()
        heard = await visit.page.evaluate("window.heard")
        live = visit.page.locator("[aria-live=polite]")
        assert await live.count() == 1
        assert await live.locator(".markdown").count() == 0
    first, *paragraphs, last = heard
    assert (first, last) == ("Waiting for the answer.", "End of the answer.")
    assert [" ".join(said.split()) for said in paragraphs] == [
        "First paragraph of many words.",
        "a listof two",
        "Code, 1 lines.",
        "The last one.",
    ]


# --- what goes wrong ------------------------------------------------------------------------------------------------


async def test_an_overload_says_when_to_come_back_and_the_retry_works(tab: Page) -> None:
    stall = Fault("stall", times=1)
    async with visiting(tab, faults=[stall], limits=Limits(concurrency=1), max_queue=0) as visit:
        holding = asyncio.create_task(
            visit.client.chat.completions.create(model=app.MODEL, messages=[{"role": "user", "content": "first"}])
        )
        await until(lambda: stall.hits == 1)
        await visit.ask("Is there room?")
        notice = visit.page.get_by_role("alert")
        await expect(notice).to_have_text("Too many are asking at once. You can try again in 1 second.")
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await visit.button("Try again").click()
        await expect(visit.answer).to_contain_text("Is there room?")
        await visit.ended()
        await expect(notice).to_have_count(0)
        assert len(visit.simulator.ledger) == 2


@pytest.mark.parametrize(
    ("fault", "words", "button"),
    [
        (
            Fault("status", status=429, headers={"Retry-After": "600"}),
            r"rate limit\. You can try again in 60\d seconds\.",
            r"Try again in \d+ s",
        ),
        (Fault("status", status=503, headers={"Retry-After": "7"}), r"You can try again in \d seconds\.", "in 7 s"),
        (Fault("status", status=500), "It failed: the model gave no usable answer", "Try again"),
        (Fault("stall"), "did not answer in time", "Try again"),
        (Fault("status", status=400, message="the words of the vendor"), "the words of the vendor", None),
    ],
    ids=["429", "503", "502", "504", "400"],
)
async def test_an_error_is_told_with_what_to_do(tab: Page, fault: Fault, words: str, button: str | None) -> None:
    async with visiting(tab, faults=[fault], timeout=0.3 if fault.kind == "stall" else 30) as visit:
        await visit.ask()
        await expect(visit.page.get_by_role("alert")).to_have_text(re.compile(words))
        buttons = visit.page.locator(".notice button")
        if button is None:
            await expect(buttons).to_have_count(0)
        else:
            await expect(buttons).to_have_text(re.compile(button))
            assert await buttons.is_disabled() == ("in" in button.split())
        await visit.ended()
        await expect(visit.question).to_be_focused()


async def test_the_wait_counts_down_and_lasts_over_a_reload(chromium: Browser) -> None:
    fault = Fault("status", status=429, headers={"Retry-After": "600"}, times=1)
    page = await chromium.new_page()
    await page.clock.install()
    async with visiting(page, faults=[fault]) as visit:
        await visit.ask()
        retry = page.locator(".notice button")
        await expect(retry).to_be_disabled()
        await page.clock.fast_forward(200_000)
        await expect(retry).to_have_text(re.compile(r"Try again in (39|40)\d s"))
        await page.reload()
        await expect(retry).to_be_disabled()
        await page.clock.fast_forward(700_000)
        await expect(retry).to_be_enabled()
        await expect(page.get_by_text("You can try again now.")).to_be_visible()
    await page.close()


async def test_a_cut_stream_keeps_what_had_arrived_and_says_so(tab: Page) -> None:
    kinds = ("cut_stream", "reset_stream", "error_in_stream")
    faults = [Fault(kind, at=9, times=1) for kind in kinds]
    async with visiting(tab, faults=faults, answer=lambda _: LONG) as visit:
        await visit.ask()
        for _ in faults:
            await visit.page.get_by_text("The answer was cut before its end").wait_for()
            await expect(visit.page.get_by_role("alert")).to_have_count(1)
            partial = await visit.answer.inner_text()
            assert partial
            assert LONG.startswith(partial)
            assert len(partial) < len(LONG) / 2
            await visit.button("Try again").click()
        await expect(visit.answer).to_have_text(LONG)
        await expect(visit.page.get_by_role("alert")).to_have_count(0)
        assert [fault.hits for fault in faults] == [1, 1, 1]
        for attempt in visit.simulator.ledger:
            assert [turn["role"] for turn in attempt.body["messages"]] == ["user"]  # type: ignore[index]


async def test_a_server_that_is_gone_is_told(tab: Page) -> None:
    async with visiting(tab, faults=[Fault("stall")]) as visit:
        await visit.page.route("**/chat", lambda route: route.abort())
        await visit.ask()
        await expect(visit.page.get_by_role("alert")).to_have_text("The server cannot be reached.")
        await expect(visit.button("Try again")).to_be_enabled()


# --- keys, reload, sizes --------------------------------------------------------------------------------------------


async def test_enter_sends_shift_enter_does_not(tab: Page) -> None:
    async with visiting(tab, latency=SLOW, answer=lambda _: ENDLESS) as visit:
        page, keyboard = visit.page, visit.page.keyboard
        await expect(visit.question).to_be_focused()
        await keyboard.press("Enter")
        await keyboard.type("line one")
        await keyboard.press("Shift+Enter")
        await keyboard.type("line two")
        await expect(visit.question).to_have_value("line one\nline two")
        assert len(visit.simulator.ledger) == 0
        await keyboard.press("Enter")
        await expect(page.get_by_role("article", name="You")).to_have_text("line one\nline two")
        await expect(visit.answer).to_contain_text("one")
        # Meanwhile the next question is written, not sent.
        await keyboard.type("next")
        await keyboard.press("Enter")
        await expect(visit.question).to_have_value("next")
        await keyboard.press("Escape")
        await visit.ended()
        assert len(visit.simulator.ledger) == 1
        await keyboard.press("Enter")
        await until(lambda: len(visit.simulator.ledger) == 2)
        await expect(page.get_by_role("article", name="You")).to_have_count(2)
        await keyboard.press("Escape")
        await visit.ended()
        # Every control can be reached with Tab.
        reached = set()
        for _ in range(8):
            await keyboard.press("Tab")
            reached.add(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert {"question", "send", "new", "Try again"} <= reached


async def test_a_reload_keeps_the_conversation_and_goes_on(tab: Page) -> None:
    async with visiting(tab) as visit:
        await visit.ask("The first question")
        await visit.ended()
        first = await visit.answer.inner_text()
        await visit.page.reload()
        await expect(visit.answer).to_have_text(first)
        await visit.ask("The second")
        await expect(visit.page.get_by_role("article", name="Answer")).to_have_count(2)
        await visit.ended()
        sent = visit.simulator.ledger[1].body["messages"]  # type: ignore[index]
        assert [(turn["role"], turn["content"]) for turn in sent] == [
            ("user", "The first question"),
            ("assistant", first),
            ("user", "The second"),
        ]
        await visit.button("New chat").click()
        await expect(visit.page.get_by_text("Ask something")).to_be_visible()
        await expect(visit.question).to_be_focused()
        await visit.page.reload()
        await expect(visit.page.get_by_text("Ask something")).to_be_visible()


async def test_a_reload_in_the_middle_keeps_the_part_and_cancels_the_call(tab: Page) -> None:
    async with visiting(tab, latency=SLOW, answer=lambda _: ENDLESS) as visit:
        await visit.ask()
        await expect(visit.answer).to_contain_text("four")
        await visit.page.reload()
        await until(lambda: any(attempt.disconnected for attempt in visit.simulator.ledger))
        await expect(visit.answer).to_contain_text("one two three four")
        await expect(visit.page.get_by_text("The page was left while this answer was written.")).to_be_visible()
        await expect(visit.button("Send")).to_be_visible()


async def test_what_the_tab_kept_and_nobody_can_read_begins_anew(tab: Page) -> None:
    async with visiting(tab) as visit:
        for kept in ("{broken", "null", '[{"question": 1}]', "[null]"):
            await tab.evaluate("(kept) => sessionStorage.setItem('turns', kept)", kept)
            await tab.reload()
            await expect(tab.get_by_text("Ask something")).to_be_visible()
        await visit.ask()
        await expect(visit.answer).to_contain_text("Hello")


async def test_a_new_chat_stops_the_answer_of_the_old_one(tab: Page) -> None:
    async with visiting(tab, latency=SLOW, answer=lambda _: ENDLESS) as visit:
        await visit.ask("The old question")
        await expect(visit.answer).to_contain_text("one")
        await visit.button("New chat").click()
        await until(lambda: any(attempt.disconnected for attempt in visit.simulator.ledger))
        await expect(visit.page.get_by_role("article")).to_have_count(0)
        await visit.ask("The new one")
        await until(lambda: len(visit.simulator.ledger) == 2)
        await expect(visit.page.get_by_role("article", name="You")).to_have_text("The new one")
        assert len(visit.simulator.ledger[1].body["messages"]) == 1  # type: ignore[index]


async def test_nothing_is_wider_than_a_phone(tab: Page) -> None:
    word = "w" * 300
    answer = f"{word} `{word}`\n\n- {word}\n\n```\n{word}\n```\n\n> https://example.org/{word}"
    async with visiting(tab, size=(360, 740), answer=lambda _: answer) as visit:
        await visit.ask(word)
        await visit.ended()
        widths = await visit.page.evaluate(
            "[document.documentElement.scrollWidth, document.getElementById('scroller').scrollWidth"
            " - document.getElementById('scroller').clientWidth]"
        )
        assert widths == [360, 0]
        await expect(visit.question).to_be_in_viewport(ratio=1)
        await expect(visit.button("Send")).to_be_in_viewport(ratio=1)


async def test_following_does_not_fight_who_reads_above(tab: Page) -> None:
    answer = "\n\n".join([LONG[:300]] * 100)
    async with visiting(tab, latency=Latency.of(tokens_per_second=400), answer=lambda _: answer) as visit:
        scroller = visit.page.get_by_label("Conversation")

        async def top() -> float:
            return float(await scroller.evaluate("(node) => node.scrollTop"))

        await visit.ask()
        newest = visit.page.get_by_role("button", name="Newest")
        while await top() < 300:
            assert not any(attempt.finished for attempt in visit.simulator.ledger)
        await expect(newest).to_be_hidden()
        await scroller.hover()
        await visit.page.mouse.wheel(0, -100)
        await expect(newest).to_be_visible()
        here, height = await top(), await scroller.evaluate("(node) => node.scrollHeight")
        while await scroller.evaluate("(node) => node.scrollHeight") < height + 100:
            assert not any(attempt.finished for attempt in visit.simulator.ledger)
        await visit.button("Stop").click()
        await visit.ended()
        assert await top() == here
        await newest.click()
        await expect(newest).to_be_hidden()
        assert await scroller.evaluate("(node) => node.scrollHeight - node.scrollTop - node.clientHeight") < 2


# --- text -----------------------------------------------------------------------------------------------------------


EVIL = '<img src=x onerror="window.hit = 1"><script>window.hit = 2</script>'


async def test_markup_is_shown_as_text_wherever_it_stands(tab: Page) -> None:
    places = [
        EVIL,
        f"# {EVIL}",
        f"- {EVIL}",
        f"> {EVIL}",
        f"**{EVIL}**",
        f"`{EVIL}`",
        f"```{EVIL.replace(' ', '')}\n{EVIL}\n```",
        "[a](javascript:window.hit=3) [b](JaVaScRiPt:window.hit=4) [c](data:text/html,hit)",
        '[d](https://example.org/"onmouseover="window.hit=5) <https://example.org/><b>',
        f"[{EVIL}](https://example.org/e)",
    ]
    async with visiting(tab, answer=lambda _: "\n\n".join(places)) as visit:
        await visit.ask(EVIL)
        await visit.ended()
        await visit.page.reload()
        conversation = visit.page.get_by_label("Conversation")
        await expect(visit.page.get_by_role("article", name="You")).to_have_text(EVIL)
        assert (await conversation.inner_text()).count(EVIL) == 9
        assert await conversation.locator("img, script, b, [onerror], [onmouseover]").count() == 0
        links = await conversation.locator("a").evaluate_all("(all) => all.map((a) => a.protocol)")
        assert set(links) == {"https:"}
        for link in await conversation.locator("a").all():
            await link.hover()
        assert await visit.page.evaluate("window.hit") is None


async def test_the_simulated_answer_shows_what_markdown_becomes(tab: Page) -> None:
    async with visiting(tab, answer=app.simulated) as visit:
        await visit.ask("What is *this*?")
        await visit.ended()
        answer = visit.answer
        await expect(answer.locator("h3")).to_have_text("What this page does")
        await expect(answer.locator("> ol > li")).to_have_count(3)
        await expect(answer.locator("> ol > li:last-child > ul > li")).to_have_count(2)
        await expect(answer.locator("strong").first).to_have_text("simulator's")
        await expect(answer.locator("a")).to_have_attribute("href", re.compile(r"^https://html\.spec\.whatwg\.org/"))
        assert (await answer.locator("pre").inner_text()).startswith('@routes.post("/chat")\nasync def chat(')
        assert "**" not in await answer.inner_text()


MARKDOWN: list[tuple[str, str]] = [
    ("a *b* _c_ **d** __e__ ***f***", "<p>a <em>b</em> <em>c</em> <strong>d</strong> <strong>e</strong> "
     "<strong><em>f</em></strong></p>"),
    ("**a *b* c** 2 * 3 * 4 snake_case_name", "<p><strong>a <em>b</em> c</strong> 2 * 3 * 4 snake_case_name</p>"),
    ("`a *b*` ``c ` d`` \\*e\\*", "<p><code>a *b*</code> <code>c ` d</code> *e*</p>"),
    ("- a\n- b\n  - c\n    - d\n- e", "<ul><li>a</li><li>b<ul><li>c<ul><li>d</li></ul></li></ul></li><li>e</li></ul>"),
    ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("1. a\n\n2. b\n\n   c\n\nd", "<ol><li>a</li><li>b<p>c</p></li></ol><p>d</p>"),
    ("- a\n1. b", "<ul><li>a</li></ul><ol><li>b</li></ol>"),
    ("a\n# b #\n---\nc", "<p>a</p><h2>b</h2><hr><p>c</p>"),
    ("> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
    ("(https://a.org/b_(c).), [e *f*](https://g.org/h_(i))",
     '<p>(<a href="https://a.org/b_(c)">https://a.org/b_(c)</a>.), '
     '<a href="https://g.org/h_(i)">e <em>f</em></a></p>'),
    ("a **b", "<p>a **b</p>"),
    ("- ", "<ul><li></li></ul>"),
]  # fmt: skip


async def test_markdown_becomes_nodes(tab: Page) -> None:
    async with visiting(tab) as visit:
        for text, html in MARKDOWN:
            made = await visit.page.evaluate(
                "(text) => make('div', {}, ...blocksOf(text).map(nodeOf)).innerHTML"
                '.replace(/ (target|rel)="[^"]*"/g, \'\')',
                text,
            )
            assert made == html, text


async def test_no_text_hangs_the_page(tab: Page) -> None:
    pieces = ["*", "**a ", "_a", "[", "[a](", "`", "`a", "> ", "- ", "1. ", "https://", "https://a(", "a\n", "```\n"]
    async with visiting(tab) as visit:
        for piece in pieces:
            text = piece * 20_000
            # Not how fast, but that it ends: a pattern that backtracks takes hours.
            async with asyncio.timeout(600):
                made = await visit.page.evaluate(
                    "(text) => make('div', {}, ...blocksOf(text).map(nodeOf)).textContent.length", text
                )
            assert made <= len(text)


# --- the server -----------------------------------------------------------------------------------------------------


# --- the agent's page ------------------------------------------------------------------------------------------------


REFUND = "Where is order 17, and order 19? Please refund 17. Are you open on Saturday?"


def steps(visit: Visit) -> Locator:
    return visit.page.locator("details.tool")


async def test_an_agent_is_seen_at_work_and_asks_before_it_acts(tab: Page) -> None:
    async with visiting(tab, path="/agent", answer=app.simulated) as visit:
        await expect(tab).to_have_title("Agent")
        await visit.ask(REFUND)
        allow = visit.button("Allow")
        await expect(allow).to_be_focused()
        await visit.ended()
        await expect(steps(visit)).to_have_count(4)
        await expect(steps(visit).nth(0)).to_contain_text(
            re.compile(r"find_order\s*number: 17\s*([0-9]+ ms|[0-9.]+ s)")
        )
        await expect(steps(visit).nth(1)).to_contain_text("failed")
        await expect(visit.page.get_by_text("refund waits for your decision.")).to_have_count(1)
        # What a call got and gave is a click away.
        await steps(visit).nth(1).locator("summary").click()
        await expect(steps(visit).nth(1)).to_contain_text("there is no order 19")
        # The page may be left and come back to.
        await tab.reload()
        await expect(steps(visit)).to_have_count(4)
        await allow.click()
        await expect(visit.answer).to_contain_text("84.0 euros of order 17 were refunded")
        await visit.ended()
        await expect(allow).to_have_count(0)
        await expect(steps(visit)).to_have_count(4)
        await expect(visit.page.locator(".markdown").first).to_have_text("Let me look that up.")
        # The conversation goes on in the same run.
        await visit.ask("And order 18?")
        await expect(visit.answer).to_contain_text("a kettle")
        await visit.ended()
        said = [item["role"] for item in visit.simulator.ledger[-1].body["messages"]]  # type: ignore[index]
        assert said.count("user") == 2
        assert len(app.RUNS) == 1


async def test_what_is_refused_is_not_done(tab: Page) -> None:
    async with visiting(tab, path="/agent", answer=app.simulated) as visit:
        await visit.ask("Refund 17 and 18")
        await expect(visit.button("Refuse")).to_have_count(2)
        await visit.button("Refuse").first.click()
        await expect(visit.page.get_by_text("refused")).to_be_visible()
        # Nothing is sent before all is decided.
        assert len(visit.simulator.ledger) == 2
        await visit.button("Allow").nth(1).click()
        await expect(visit.answer).to_contain_text("39.0 euros of order 18 were refunded")
        await expect(visit.answer).to_contain_text("this call was not approved")
        await expect(visit.answer).not_to_contain_text("of order 17 were refunded")


async def test_another_question_gives_up_what_nobody_decided(tab: Page) -> None:
    async with visiting(tab, path="/agent", answer=app.simulated) as visit:
        await visit.ask("Refund 17")
        await expect(visit.button("Allow")).to_be_visible()
        await visit.ask("Never mind. Where is 18?")
        await expect(visit.answer).to_contain_text("a kettle")
        await expect(visit.page.get_by_text("You went on without deciding.")).to_be_visible()
        await expect(visit.button("Allow")).to_have_count(0)
        assert "went on without it" in json.dumps(visit.simulator.ledger[-1].body)


async def test_an_agent_that_is_stopped_goes_on_from_there(tab: Page) -> None:
    slow = Fault("stall", times=1, after=1)
    async with visiting(tab, path="/agent", answer=app.simulated, faults=[slow]) as visit:
        await visit.ask("Where is order 17?")
        await until(lambda: slow.hits == 1)
        await expect(steps(visit)).to_have_count(1)
        await visit.button("Stop").click()
        await until(lambda: visit.simulator.ledger[1].disconnected and len(app.RUNS) == 1)
        await visit.button("Try again").click()
        await expect(visit.answer).to_contain_text("two lamps")
        await visit.ended()
        # The tool was not called again.
        await expect(steps(visit)).to_have_count(1)
        said = [item["role"] for item in visit.simulator.ledger[-1].body["messages"]]  # type: ignore[index]
        assert (said.count("user"), said.count("tool")) == (1, 1)


@pytest.mark.parametrize("after", [0, 1], ids=["before the first message", "within the run"])
async def test_an_agents_rate_limit_says_when(tab: Page, after: int) -> None:
    limit = Fault("status", status=429, headers={"Retry-After": "1"}, times=1, after=after)
    async with visiting(tab, path="/agent", answer=app.simulated, faults=[limit]) as visit:
        await visit.ask("Where is order 17?")
        await expect(visit.page.get_by_role("alert")).to_have_text(
            re.compile(r"rate limit.*You can try again in \d seconds?\.")
        )
        await visit.button("Try again").click()
        await expect(visit.answer).to_contain_text("two lamps")
        await expect(steps(visit)).to_have_count(1)


async def test_a_limit_without_a_time_says_so(tab: Page) -> None:
    async with visiting(tab, faults=[Fault("status", status=429)]) as visit:
        await visit.ask()
        await expect(visit.page.get_by_role("alert")).to_have_text(
            re.compile("rate limit. It did not say for how long")
        )
        await expect(visit.button("Try again")).to_be_enabled()


async def test_a_conversation_that_the_server_lost_is_told(tab: Page) -> None:
    async with visiting(tab, path="/agent", answer=app.simulated) as visit:
        await visit.ask("Where is order 17?")
        await visit.ended()
        app.RUNS.clear()
        await visit.ask("And 18?")
        await expect(visit.page.get_by_role("alert")).to_have_text(re.compile("begin a new chat"))
        # Chromium's own note of the 404.
        assert len(visit.complaints) == 1
        visit.complaints.clear()
        await visit.button("New chat").click()
        await visit.ask("And 18?")
        await expect(visit.answer).to_contain_text("a kettle")


async def test_an_agent_at_work_is_no_wider_than_a_phone(tab: Page) -> None:
    word = "w" * 300

    def answer(asked: Any) -> Any:
        call = app.Call.of("find_order", number=17, **{word: word})
        return word if asked.results else app.Answer(text=word, calls=[call])

    async with visiting(tab, path="/agent", size=(360, 740), answer=answer) as visit:
        await visit.ask(word)
        await visit.ended()
        await steps(visit).first.locator("summary").click()
        widths = await visit.page.evaluate(
            "[document.documentElement.scrollWidth, document.getElementById('scroller').scrollWidth"
            " - document.getElementById('scroller').clientWidth]"
        )
        assert widths == [360, 0]


async def test_markup_in_tool_calls_is_shown_as_text(tab: Page) -> None:
    markup = "<img src=x onerror=alert(1)><script>alert(2)</script>"

    def answer(asked: Any) -> Any:
        return "done" if asked.results else app.Answer(calls=[app.Call(f"<b>{'x' * 9}", json.dumps({markup: markup}))])

    async with visiting(tab, path="/agent", answer=answer) as visit:
        await visit.ask()
        await visit.ended()
        await steps(visit).first.locator("summary").click()
        await expect(steps(visit)).to_contain_text(markup)
        await expect(steps(visit).locator("img, script, b")).to_have_count(0)


async def test_a_run_is_its_users_alone_and_decided_once() -> None:
    app.RUNS.clear()
    async with Simulator(answer=app.simulated) as simulator:
        endpoint = Endpoint.aimlapi(api_key="test", base_url=simulator.base_url)
        async with serving(app.make_app(endpoints=[endpoint])) as server:
            ann, bob = (aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) for _ in range(2))
            async with ann, bob:
                for user in (ann, bob):
                    (await user.get(server.url)).close()
                address = f"{server.url}/agent"
                async with ann.post(address, json={"question": "Refund 17"}) as response:
                    text = await response.text()
                asked = json.loads(text.split("event: approval_needed\ndata: ")[1].split("\n")[0])
                decision = {"run": asked["run"], "approvals": {asked["calls"][0]["id"]: True}}
                async with bob.post(address, json=decision) as response:
                    assert response.status == 404
                async with ann.post(address, json={**decision, "approvals": {"nobody": True}}) as response:
                    assert response.status == 422
                both = await asyncio.gather(*[ann.post(address, json=decision) for _ in range(2)])
                texts = [await response.text() for response in both]
                assert sorted(response.status for response in both) == [200, 404]
                assert sum("were refunded" in text for text in texts) == 1


async def test_each_user_is_a_tenant() -> None:
    made: list[AsyncClient] = []

    def make(**options: Any) -> AsyncClient:
        made.append(AsyncClient(**options))
        return made[0]

    async with Simulator(faults=[Fault("stall")]) as simulator:
        endpoint = Endpoint.aimlapi(api_key="test", base_url=simulator.base_url)
        bounds = {"limits": Limits(concurrency=1), "max_queue_per_tenant": 1}
        async with serving(app.make_app(make=make, endpoints=[endpoint], **bounds)) as server:
            # Cookies of a bare address are unsafe.
            ann, bob = (aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) for _ in range(2))
            async with ann, bob:
                question = {"messages": [{"role": "user", "content": "Hello"}]}
                for user in (ann, bob):
                    async with user.get(server.url) as page:
                        assert "HttpOnly" in page.headers["Set-Cookie"]
                    async with user.get(server.url) as page:
                        assert "Set-Cookie" not in page.headers
                chat = f"{server.url}/chat"
                held = [asyncio.create_task(user.post(chat, json=question)) for user in (ann, ann, bob)]
                await until(lambda: made[0].queued == 2)
                async with ann.post(chat, json=question) as refused:
                    assert refused.status == 503
                async with ann.post(chat, data=json.dumps(question), headers={"Content-Type": "text/plain"}) as foreign:
                    # What a page of another site could send without asking.
                    assert foreign.status == 422
                for task in held:
                    task.cancel()
                await asyncio.gather(*held, return_exceptions=True)


@pytest.mark.parametrize("vendor", [None, "bytespike"])
def test_one_command_serves_the_page_with_a_key_and_without(vendor: Any) -> None:
    with contextlib.ExitStack() as stack:
        environment = {}
        if vendor is not None:
            simulator = stack.enter_context(serve_in_thread(vendor=vendor))
            environment = {"BYTESPIKE_API_KEY": "test", "BYTESPIKE_API_URL": simulator.base_url}
        said, answer = run_command(environment)
        if vendor is not None:
            assert len(simulator.ledger) == 1
    assert ("the built-in simulator answers" in said) == (vendor is None)
    assert "Traceback" not in said
    assert "event: done" in answer


def run_command(environment: dict[str, str]) -> tuple[str, str]:
    """Run the example on any port, ask it once, and end it as Ctrl-C does; returns what it said and its answer."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", APP, "--port", "0"],
        env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline()]
            while not (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", said[-1])):
                assert said[-1], said
                said.append(process.stdout.readline())
            answer = asyncio.run(_ask(found[1]))
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=600)[0]
    return "".join([*said, rest]), answer


async def _ask(url: str) -> str:
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as page:
            assert "script-src 'nonce-" in page.headers["Content-Security-Policy"]
        messages = [{"role": "user", "content": "[tokens:20] Hello from the simulator"}]
        async with session.post(f"{url}/chat", json={"messages": messages}) as response:
            assert response.status == 200
            # Else Chromium may leave five seconds late, which a test of it would see once in fifteen runs.
            assert response.headers["Connection"] == "close"
            return await response.text()


def test_what_is_missing_is_one_line() -> None:
    code = f"import runpy, sys; sys.modules['fastapi'] = None; runpy.run_path({str(APP)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith("pip install 'aimlasync[starlette]' fastapi uvicorn\n")
