"""Answers that come late: nothing is begun on what is not settled, and what was chosen meanwhile stays."""

from collections.abc import Callable

import httpx
import pytest
from browsing import Person
from playwright.sync_api import APIResponse, Page, Route, expect

Come = Callable[..., Person]


class Held:
    """The server's answers to the page are held back; or what it is asked, if that is to arrive `late`, too."""

    def __init__(self, page: Page, pattern: str, method: str, late: bool = False) -> None:
        self._page, self._method, self._is_late = page, method, late
        self._answers: list[tuple[Route, APIResponse | None]] = []
        self._is_over = False
        page.route(pattern, self._hold)

    def _hold(self, route: Route) -> None:
        if self._is_over or route.request.method != self._method:
            route.fallback()
        else:
            self._answers.append((route, None if self._is_late else route.fetch()))

    def wait(self) -> None:
        """Until an answer is held back."""
        while not self._answers:
            self._page.wait_for_timeout(20)

    def release(self) -> None:
        self._is_over = True
        for route, answer in self._answers:
            route.fulfill(response=answer or route.fetch())


def test_nothing_is_begun_while_a_change_is_saved(person: Person) -> None:
    person.say("one")
    saving = Held(person.page, "**/state", "POST")
    person.rewrite("one", "Edit in place", "uno", "Save")
    saving.wait()
    person.type("two")
    expect(person.page.get_by_role("button", name="Send")).to_have_attribute("title", "A change is being saved")
    person.page.wait_for_timeout(3000)  # longer than from one look at what others do to the next
    person.sees("one", "I heard 1: one")
    saving.release()
    person.sees("uno", "I heard 1: one")
    person.say("two")
    person.sees("uno", "I heard 1: one", "two", "I heard 2: uno | two")


def test_two_changes_are_saved_one_after_the_other(person: Person) -> None:
    person.say("one")
    saving = Held(person.page, "**/state", "POST")
    for text in ("I heard 1", "one"):
        person.act(text, "Edit in place")
    editors = person.page.locator(".editor")
    editors.first.get_by_label("Message").fill("uno")
    editors.last.get_by_label("Message").fill("sentito")
    person.click("Save", editors.first)
    saving.wait()
    expect(editors.get_by_role("button", name="Save")).to_have_attribute("title", "A change is being saved")
    saving.release()
    person.click("Save", editors)
    person.sees("uno", "sentito")


def test_a_change_that_is_saved_late_does_not_leave_the_thread_one_went_to(come: Come, address: str) -> None:
    begun = {"thread_id": "went-to", "new_messages": [{"role": "user", "content": "hello"}]}
    httpx.post(f"{address}threads", json=begun).raise_for_status()
    person = come()
    person.say("one")
    saving = Held(person.page, "**/state", "POST")
    person.rewrite("one", "Edit in place", "uno", "Save")
    saving.wait()
    person.page.get_by_role("navigation").locator("a[href$=went-to]").click()
    person.sees("hello")
    saving.release()
    expect(person.page.get_by_role("button", name="Send")).to_have_attribute("title", "There is no text")
    person.say("two")
    person.sees("hello", "two", "I heard 2: hello | two")


@pytest.mark.parametrize(("method", "listed"), [("PATCH", "renamed"), ("DELETE", "hello")])
def test_what_is_done_to_a_thread_late_does_not_leave_another(person: Person, method: str, listed: str) -> None:
    person.say("hello")
    first = person.page.url.partition("thread=")[2]
    person.click("New conversation")
    person.say("one")
    thread = person.page.url.partition("thread=")[2]
    doing = Held(person.page, f"**/threads/{thread}", method)
    if method == "PATCH":
        person.click("Rename")
        person.page.get_by_label("Title").fill("renamed")
        person.click("Save")
    else:
        person.click("Delete", person.page.locator("header.top"))
        person.click("Delete", person.page.get_by_role("dialog"))
    doing.wait()
    threads = person.page.get_by_role("navigation")
    threads.locator(f"a[href$='{first}']").click()
    person.sees("hello", "I heard 1: hello")
    doing.release()
    expect(threads.get_by_role("link").first).to_contain_text(listed)
    expect(person.page.get_by_role("heading", level=1)).to_have_text("hello")
    person.sees("hello", "I heard 1: hello")


@pytest.mark.parametrize("late", ["the look", "the deletion"])
def test_no_look_is_taken_at_a_thread_that_is_being_deleted(person: Person, late: str) -> None:
    person.say("one")
    thread = person.page.url.partition("thread=")[2]
    is_look = late == "the look"
    held = Held(person.page, f"**/threads/{thread}", "GET" if is_look else "DELETE", late=is_look)
    if is_look:
        held.wait()
    person.click("Delete", person.page.locator("header.top"))
    person.click("Delete", person.page.get_by_role("dialog"))
    held.wait()
    person.page.wait_for_timeout(500 if is_look else 3000)  # longer than a deletion; than from one look to the next
    held.release()
    expect(person.page.get_by_role("heading", name="What is it about?")).to_be_visible()


def test_nothing_is_begun_on_a_checkpoint_that_is_still_loading(person: Person) -> None:
    person.say("one")
    person.say("two")
    loading = Held(person.page, "**/state/**", "GET")
    person.act("I heard 1", "Continue from here")
    loading.wait()
    person.type("other")
    expect(person.page.get_by_role("button", name="Send")).to_have_attribute("title", "The thread is loading")
    loading.release()
    person.sees("one", "I heard 1: one")
    person.say("other")
    person.sees("one", "I heard 1", "other", "I heard 2: one | other")


def test_a_look_at_what_others_do_does_not_undo_what_one_opens(person: Person) -> None:
    person.say("one")
    person.say("two")
    thread = person.page.url.partition("thread=")[2]
    looking = Held(person.page, f"**/threads/{thread}", "GET")
    httpx.post(
        f"{person.address}v1/responses", json={"input": "three", "custom_inputs": {"thread_id": thread}}
    ).raise_for_status()
    looking.wait()
    loading = Held(person.page, "**/state/**", "GET")
    person.act("I heard 1", "Continue from here")
    loading.wait()
    looking.release()
    person.page.wait_for_timeout(500)
    loading.release()
    person.sees("one", "I heard 1: one")
    expect(person.page.get_by_text("as a new branch")).to_be_visible()
    person.say("other")
    person.sees("one", "I heard 1", "other", "I heard 2: one | other")


@pytest.mark.parametrize("early", ["**/state", "**/history?*"])
def test_what_is_of_different_moments_is_not_shown_for_long(person: Person, early: str) -> None:
    person.say("one")
    thread = person.page.url.partition("thread=")[2]
    person.click("New conversation")
    others = {"**/state", "**/history?*", f"**/threads/{thread}"} - {early}
    before = Held(person.page, early, "GET")
    after = [Held(person.page, pattern, "GET", late=True) for pattern in others]
    person.page.go_back()
    before.wait()
    asked = {"input": "two", "custom_inputs": {"thread_id": thread}}
    httpx.post(f"{person.address}v1/responses", json=asked).raise_for_status()
    for held in (before, *after):
        held.wait()
        held.release()
    person.sees("one", "I heard 1: one", "two", "I heard 2: one | two")
    person.say("three")
    person.sees("one", "I heard 1", "two", "I heard 2", "three", "I heard 3: one | two | three")
