"""The page in headless Chromium; every wait is for what a person would see."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from dualtower import models
from dualtower.serving.event import Event
from dualtower.serving.ranking import Ranking
from dualtower.serving.store import open_store
from tests.retrieval.vectors import SumOfHistory
from tests.serving.page.browser import chromium, listening
from tests.serving.page.served import TOKEN, make, save_numbers, two_arms


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(autouse=True)
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab of a phone's size, in which nothing may go wrong unseen."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: (
            wrong.append(message.text) if "policy" in str(message.text).lower() else None
        ),
    )
    page.on("request", lambda request: wrong.append(request.url) if outside(request.url) else None)
    yield page
    context.close()
    assert wrong == []


def outside(address: str) -> bool:
    return not address.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:"))


def items(page: Any, arm: str) -> list[str]:
    cells = page.locator(f'.arm[data-arm="{arm}"] tbody td:nth-child(2)')
    found: list[str] = cells.all_text_contents()
    return found


def status(page: Any, text: str) -> str:
    page.wait_for_function(
        "text => document.getElementById('status').textContent.includes(text)", arg=text
    )
    return str(page.locator("#status").text_content())


def test_a_click_changes_the_list(page: Any, tmp_path: Path) -> None:
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_role("button", name="q1").click()
        status(page, "Showing q1.")
        assert items(page, "sum_of_history") == ["i2", "i3", "i4", "i5"]
        row = page.locator(".arm tbody tr").first.locator("td").all_text_contents()
        assert row[:4] == ["1", "i2", "tea", "0.8000"]
        assert page.locator("#history-list li").all_text_contents() == ["i1 · tea"]
        # i1 + i5 point to 63 degrees: nearest are i3 (53), i4 (90) and i2 (37).
        page.get_by_role("button", name="Send event: click on i5").click()
        said = status(page, "Stored: q1 clicked i5.")
        assert said.endswith("sum_of_history: 0 entered, 1 left, 2 moved")
        assert items(page, "sum_of_history") == ["i3", "i2", "i4"]
        moves = page.locator(".arm td.change").all_text_contents()
        assert moves == ["▲ up 1", "▼ down 1", "same"]
        assert page.locator(".arm .left").text_content() == "Left: i5"
        assert page.locator("#history-list li").all_text_contents() == ["i5 live", "i1 · tea"]
        width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0


def test_the_keyboard_alone_is_enough(page: Any, tmp_path: Path) -> None:
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_role("button", name="q1").wait_for()
        page.get_by_label("Query id").focus()
        page.keyboard.type("someone new")
        page.keyboard.press("Enter")
        status(page, "Showing someone new.")
        assert "as for a new query" in page.locator("#history-note").text_content()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('aria-label')") is not None:
                break
        page.keyboard.press("Enter")
        status(page, "Stored: someone new clicked i1.")
        page.wait_for_function("() => document.activeElement.closest('.arm') !== null")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label == f"Send event: click on {items(page, 'sum_of_history')[0]}"


def focused(page: Any) -> str:
    """The focused element's id or name."""
    found = page.evaluate(
        "document.activeElement.id || document.activeElement.getAttribute('aria-label')"
    )
    return str(found)


def test_a_long_history_of_numbers(page: Any, tmp_path: Path) -> None:
    save_numbers(tmp_path / "bundle")
    history = page.locator("#history-list li")
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_role("button", name="1", exact=True).click()
        status(page, "Showing 1.")
        note = "40 events, 0 since the bundle was built; the latest 30, as item · category."
        assert page.locator("#history-note").text_content() == note
        assert history.all_text_contents()[:2] == ["1040 · 1", "1039 · Documentary"]
        assert history.count() == 30
        earlier = page.get_by_role("button", name="Show earlier events")
        earlier.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('#history-list li').length == 40")
        assert not earlier.is_visible()
        page.wait_for_function("() => document.activeElement.id === 'history-list'")
        box = page.locator("#history-list").bounding_box()
        assert box["height"] < 400
        page.get_by_role("button", name="Send event: click on 1045").click()
        status(page, "Stored: 1 clicked 1045.")
        assert history.count() == 41
        page.get_by_role("button", name="2", exact=True).click()
        status(page, "Showing 2.")
        assert history.all_text_contents() == ["1080 · 64"]
        page.get_by_role("button", name="1", exact=True).click()
        status(page, "Showing 1.")
        assert history.count() == 30


def test_a_click_far_down_leaves_the_row_and_says_so_in_view(page: Any, tmp_path: Path) -> None:
    save_numbers(tmp_path / "bundle")
    page.set_viewport_size({"width": 320, "height": 600})
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_role("button", name="2", exact=True).click()
        status(page, "Showing 2.")
        # As in Safari, which does not hold what is in view in its place.
        page.evaluate("document.documentElement.style.overflowAnchor = 'none'")
        row = page.locator(".arm tbody tr").nth(15).locator("button")
        row.evaluate("element => element.scrollIntoView({block: 'center'})")
        before = row.bounding_box()["y"]
        for count in range(2, 6):  # the history above comes to fill more lines
            row.click()
            page.wait_for_function(
                "n => document.querySelectorAll('#history-list li').length === n", arg=count
            )
            page.wait_for_function("() => document.activeElement.closest('.arm') !== null")
            assert abs(row.bounding_box()["y"] - before) < 2
        status(page, "Stored: 2 clicked")
        said = page.locator("#status").bounding_box()
        assert 0 <= said["y"] < 100
        # Nothing is cut off at the narrowest, where arrows stand without their words.
        wide = "[...document.querySelectorAll('.table')].map(t => t.scrollWidth - t.clientWidth)"
        assert page.evaluate(wide) == [0]
        word = page.locator(".change .word").first.evaluate("e => getComputedStyle(e).clipPath")
        assert word == "inset(50%)"
        shown = "e => getComputedStyle(e, '::after').content"
        assert page.locator("th.item").evaluate(shown) == '"category"'


def test_the_focus_comes_back_to_a_button_that_waited(page: Any, tmp_path: Path) -> None:
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_role("button", name="q1").click()
        status(page, "Showing q1.")
        page.get_by_label("Send a click on any item").fill("i4")
        page.get_by_role("button", name="Send event", exact=True).press("Enter")
        status(page, "Stored: q1 clicked i4.")
        page.wait_for_function("() => document.activeElement.textContent === 'Send event'")
        page.route("**/events", lambda route: route.abort())
        page.get_by_role("button", name="Send event: click on i2").press("Enter")
        page.get_by_text("The server cannot be reached.").wait_for()
        page.wait_for_function("() => document.activeElement !== document.body")
        assert focused(page) == "Send event: click on i2"


def test_a_long_id_hides_neither_the_list_nor_the_candidates(page: Any, tmp_path: Path) -> None:
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_label("Query id").fill("x" * 1_000)
        page.keyboard.press("Enter")
        status(page, "Showing xxx")
        for _ in range(3):
            page.get_by_label("Send a click on any item").fill("y" * 1_000)
            page.keyboard.press("Enter")
            status(page, "clicked yyy")
        assert page.locator("#said").bounding_box()["height"] < 120
        assert page.locator("#history-list").bounding_box()["height"] < 360
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_data_is_text_and_never_html(page: Any, tmp_path: Path) -> None:
    bad = "<img src=x onerror=\"document.title='run'\">"
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_role("button", name="q1").wait_for()
        page.get_by_label("Query id").fill(bad)
        page.keyboard.press("Enter")
        status(page, f"Showing {bad}.")
        page.get_by_label("Send a click on any item").fill(bad)
        page.keyboard.press("Enter")
        status(page, f"Stored: {bad} clicked {bad}.")
        assert page.title() == "dualtower"
        assert page.locator("#view img").count() == 0


def test_arms_side_by_side_and_the_chart(page: Any, tmp_path: Path) -> None:
    experiment = two_arms(tmp_path)
    server = make(tmp_path, experiment)
    assert server.store is not None
    server.store.append(list(week(experiment)))
    server.ranking = Ranking(lambda task: -task.scores, 1.0)
    page.set_viewport_size({"width": 1200, "height": 800})
    with listening(server) as address:
        page.goto(address)
        page.get_by_role("button", name="q1").click()
        status(page, "Showing q1.")
        assert items(page, "plane") == ["i2", "i3", "i4", "i5"]
        assert items(page, "turned") == ["i5", "i4", "i2", "i3"]
        boxes = [page.locator(".arm").nth(place).bounding_box() for place in (0, 1)]
        assert boxes[0]["y"] == boxes[1]["y"]
        assert page.get_by_text("As retrieved; a ranker orders them anew").is_visible()
        answers = page.locator(".arm.answers").get_attribute("data-arm")
        assert answers == experiment.arm_of("q1").name
        page.get_by_role("button", name="Draw the chart").click()
        status(page, "The chart is drawn.")
        image = page.get_by_alt_text("Cumulative lift of turned over the control")
        page.wait_for_function("() => document.querySelector('#charts img').naturalWidth > 500")
        assert image.count() == 1
        assert "turned against plane" in page.locator("#verdicts").text_content()
        rows = page.get_by_label("Guardrails").locator("tbody tr")
        assert [row.locator("td").first.text_content() for row in rows.all()] == ["plane", "turned"]
        assert "2 ms (" in rows.first.text_content()
        assert rows.first.bounding_box()["height"] < 40
        assert "seconds since 1970" in page.locator("#notes").text_content()
        assert "1970" not in page.locator("#verdicts").text_content()
        page.wait_for_function("() => document.activeElement.id === 'draw'")


def week(experiment: Any) -> Iterator[Event]:
    """Seven days in which every query sees ten items, and every third clicks on one."""
    for query in range(200):
        arm = experiment.arm_of(f"user {query}").name
        for day in range(7):
            name, at = f"user {query}", 1_700_000_000 + 86_400 * day
            where = ("test", arm)
            yield Event(f"e{query}/{day}", name, "i1", at, "exposure", 10.0, *where, 0.002, 10)
            if (query + day) % 3 == 0:
                yield Event(f"c{query}/{day}", name, "i1", at + 1, "click", 0.0, *where)


def test_the_token_is_asked_for(page: Any, tmp_path: Path) -> None:
    with listening(make(tmp_path, token=SecretStr(TOKEN))) as address:
        page.goto(address)
        page.get_by_text("Enter the server's token.").wait_for()
        page.get_by_label("This server asks for its token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("The token is not this server's.").wait_for()
        page.get_by_label("This server asks for its token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="q1").click()
        status(page, "Showing q1.")
        assert not page.locator("#token-form").is_visible()


def test_errors_in_plain_words(page: Any, tmp_path: Path) -> None:
    with listening(make(tmp_path, events=False)) as address:
        page.goto(address)
        page.get_by_role("button", name="q1").click()
        status(page, "Showing q1.")
        assert page.get_by_role("button", name="Send event").count() == 0
        assert page.get_by_text("This server keeps no events").is_visible()
    page.get_by_role("button", name="q2").click()
    page.get_by_text("The server cannot be reached.").wait_for()


def test_an_event_sent_again_after_a_failure_is_the_same_event(page: Any, tmp_path: Path) -> None:
    with listening(make(tmp_path)) as address:
        page.goto(address)
        page.get_by_role("button", name="q1").click()
        status(page, "Showing q1.")
        # The server stores the event, and its reply is lost on the way.
        page.route("**/events", lambda route: (route.fetch(), route.abort()))
        click = page.get_by_role("button", name="Send event: click on i4")
        click.click()
        page.get_by_text("The server cannot be reached.").wait_for()
        page.unroute("**/events")
        click.click()
        status(page, "Stored: q1 clicked i4.")
    stored = [e for block in open_store(tmp_path / "events.db").replay() for e in block.events]
    assert [(event.query_id, event.item_id) for event in stored] == [("q1", "i4")]
    assert abs(stored[0].timestamp - time.time()) < 3600
