"""How the page looks and feels: on small screens, in the dark, by keyboard, to a screen reader, at a thousand turns."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from browsing import Person
from playwright.sync_api import expect

Come = Callable[..., Person]

SCREENS: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1400, "height": 850}},
    "dark": {"viewport": {"width": 1400, "height": 850}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 380, "height": 700}},
}


@pytest.fixture(scope="module")
def branched(address: str) -> str:
    """The query of a thread with a fork, a tool call and an approval that waits."""

    def turn(text: str, **ref: str) -> str:
        body = {"input": text, "custom_inputs": {"thread_id": "branched"} | ref}
        answer = httpx.post(f"{address}responses", json=body, timeout=30).raise_for_status().json()
        return str(answer["custom_outputs"]["checkpoint_id"])

    first = turn("say Hello, **world**")
    turn("think")
    turn("say the other way", checkpoint_id=first)
    turn("search cats")
    return "?thread=branched"


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(come: Come, branched: str, screen: str) -> None:
    person = come(branched, **SCREENS[screen])
    expect(person.page.get_by_role("button", name="Approve")).to_be_visible()
    assert _axe(person) == []
    if screen == "narrow":
        person.click("Tree")
        assert _axe(person) == []
    for opened in ("Insides", "Compare"):
        person.click(opened)
        expect(person.page.get_by_text("Loading…")).to_have_count(0)
        assert _axe(person) == []
        person.page.keyboard.press("Escape")
        expect(person.page.get_by_role("dialog")).to_have_count(0)


def _axe(person: Person) -> list[str]:
    # Playwright may run scripts past the page's policy.
    found = Axe().run(person.page).response["violations"]
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


def test_a_small_screen_has_all_of_it(come: Come, branched: str) -> None:
    person = come(branched, **SCREENS["narrow"])
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 380
    person.click("Tree")
    person.nodes.first.get_by_role("button").click()
    person.sees("say Hello, **world**", "Hello, world")
    person.click("Threads")
    person.page.get_by_role("navigation").get_by_role("link").first.click()
    person.say("hello")
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 380


def test_the_dark_follows_the_system(come: Come, branched: str) -> None:
    def ground(**options: object) -> object:
        person = come(branched, **options)
        return person.page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert ground(color_scheme="light") == "rgb(255, 255, 255)"
    assert ground(color_scheme="dark") == "rgb(21, 23, 28)"


def test_all_of_it_by_keyboard(person: Person) -> None:
    page = person.page
    page.keyboard.type("one")  # the field has the focus
    page.keyboard.press("Enter")
    person.idle()

    def reach(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == name:
                return
        pytest.fail(f"{name} cannot be reached")

    reach("Edit and ask again")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("uno")
    page.keyboard.press("Control+Enter")
    person.idle()
    person.sees("uno", "I heard 1: uno")
    reach("Insides")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Insides")).to_be_focused()
    person.nodes.last.get_by_role("button").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    person.sees("one", "I heard 1: one")


TURNS = 1000


@pytest.fixture(scope="module")
def long(address: str) -> str:
    """The query of a thread of a thousand turns."""
    with httpx.Client(base_url=address, timeout=30) as client:
        for n in range(TURNS):
            body = {"input": f"say answer {n}", "custom_inputs": {"thread_id": "long"}}
            client.post("/responses", json=body).raise_for_status()
    return "?thread=long"


def test_a_thousand_turns(come: Come, long: str) -> None:
    painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime"  # milliseconds
    empty = come().page.evaluate(painted)
    person = come(long)
    page = person.page
    expect(person.messages.last).to_have_text(f"answer {TURNS - 1}")
    assert page.evaluate(painted) < max(1000, 2 * empty)  # on a machine that does other things it takes longer
    person.tree.get_by_text("loading").wait_for(state="detached")
    assert person.nodes.count() < 100  # those in sight
    assert person.messages.count() < 200
    for key in "to type is to wait for nothing":
        page.keyboard.press(key if key != " " else "Space")
    slowest = page.evaluate(
        """async () => {
            const field = document.querySelector(".composer textarea");
            let slowest = 0;
            for (let n = 0; n < 20; n++) {
                const began = performance.now();
                field.value += "x";
                field.dispatchEvent(new Event("input", {bubbles: true}));
                await new Promise(requestAnimationFrame);
                slowest = Math.max(slowest, performance.now() - began);
            }
            return slowest;
        }"""
    )
    assert slowest < 200  # milliseconds, on a machine that does other things too
    person.tree.locator(".graph").evaluate("graph => graph.scrollTop = 0")
    person.nodes.filter(has_text="say answer 0").first.get_by_role("button").click()
    person.sees("say answer 0", "answer 0")
