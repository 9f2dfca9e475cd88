"""A conversation on the page: it begins, streams, stops, asks, fails, and is found again."""

import re
from collections.abc import Callable

import httpx
import pytest
from browsing import Person
from playwright.sync_api import expect
from relay import Relay

Come = Callable[..., Person]


def test_a_first_conversation(person: Person) -> None:
    person.say("hello")
    person.say("again")
    person.sees("hello", "I heard 1: hello", "again", "I heard 2: hello | again")
    expect(person.page.get_by_role("heading", level=1)).to_have_text("hello")
    listed = person.page.get_by_role("navigation").get_by_role("link").first
    expect(listed).to_have_text(re.compile("hello.*2 turns", re.DOTALL))
    expect(person.nodes).to_have_count(2)


def test_tokens_come_as_they_are_written(person: Person) -> None:
    person.type("count")
    expect(person.messages.last).to_contain_text("0 1 2")
    expect(person.messages.last).not_to_contain_text("11")
    expect(person.messages.last).to_contain_text("10 11")
    person.idle()
    person.sees("count", "0 1 2 3 4 5 6 7 8 9 10 11")


def test_stop_ends_a_turn_and_keeps_what_was_asked(person: Person) -> None:
    person.type("count")
    expect(person.messages.last).to_contain_text("0 1")
    person.click("Stop")
    person.idle()
    expect(person.page.get_by_text("Stopped.")).to_be_visible()
    person.say("hello")
    expect(person.messages.last).to_contain_text("I heard 2: count | hello")


def test_reasoning_and_tool_calls_are_folded(person: Person) -> None:
    person.say("think")
    reasoning = person.page.locator("details.reasoning")
    expect(reasoning.get_by_text("Let me see.")).to_be_hidden()
    reasoning.locator("summary").click()
    expect(reasoning.get_by_text("Let me see.")).to_be_visible()


def test_an_approval_with_other_arguments(person: Person) -> None:
    person.say("search cats")
    waiting = person.page.get_by_role("region", name="The agent waits")
    expect(person.page.get_by_role("navigation").get_by_role("link").first).to_contain_text("waiting")
    waiting.get_by_label("Arguments").fill("not JSON")
    expect(waiting.get_by_role("button", name="Approve")).to_have_attribute(
        "title", "The arguments must be a JSON object"
    )
    waiting.get_by_label("Arguments").fill('{"about": "dogs"}')
    person.click("Approve as edited")
    expect(person.messages.last).to_contain_text("The result is: found dogs")
    expect(waiting).to_have_count(0)


def test_a_refusal_with_its_reason(person: Person) -> None:
    person.say("search cats")
    person.page.get_by_label("Reason for a refusal").fill("too dear")
    person.click("Refuse")
    expect(person.messages.last).to_contain_text("The result is: refused, too dear")


def test_a_question_of_the_agents(person: Person) -> None:
    person.say("ask city")
    expect(person.page.get_by_text("Which city?")).to_be_visible()
    person.page.get_by_label("Answer").fill("Oslo")
    person.click("Answer")
    expect(person.messages.last).to_contain_text("The result is: Oslo")


def test_a_turn_that_fails_says_so_and_can_be_run_again(person: Person) -> None:
    person.say("fail")
    expect(person.page.get_by_role("alert")).to_be_visible()
    person.click("Run it from here")
    person.idle()
    expect(person.page.get_by_role("alert")).to_be_visible()
    person.say("hello")
    expect(person.messages.last).to_contain_text("I heard")


def test_a_message_that_the_server_refuses_is_not_lost(person: Person) -> None:
    person.allows("413")
    text = "x" * 200_000
    field = person.page.get_by_label("Message to the agent")
    field.fill(text)
    person.click("Send")
    expect(person.page.get_by_role("alert")).to_contain_text("more than the 100000 bytes")
    assert field.input_value() == text


def test_rename_search_copy_and_delete(person: Person) -> None:
    person.say("something about whales")
    person.click("Rename")
    person.page.get_by_label("Title").fill("On whales")
    person.page.keyboard.press("Enter")
    threads = person.page.get_by_role("navigation").get_by_role("link")
    expect(threads.first).to_contain_text("On whales")
    person.page.get_by_label("Search threads").fill("WHALES on")
    expect(threads).to_have_count(1)
    first = person.page.url
    person.click("Copy", person.page.locator("main > header"))
    expect(threads).to_have_count(2)
    assert person.page.url != first
    person.sees("something about whales", "I heard 1")
    person.click("Delete", person.page.locator("main > header"))
    person.click("Delete", person.page.get_by_role("dialog"))
    expect(threads).to_have_count(1)
    expect(person.page.get_by_role("heading", name="What is it about?")).to_be_visible()


def test_a_reload_in_mid_stream_goes_on_where_it_is(person: Person) -> None:
    person.type("count")
    expect(person.messages.last).to_contain_text("0 1 2")
    person.page.reload()
    expect(person.messages.last).to_contain_text("3 4 5")
    expect(person.page.locator(".running")).to_have_count(1)
    person.idle()
    person.sees("count", "0 1 2 3 4 5 6 7 8 9 10 11")


def test_a_new_conversation_is_apart_from_one_that_is_still_at_work(person: Person) -> None:
    person.type("count")
    expect(person.messages.last).to_contain_text("0 1")
    person.click("New conversation")
    person.page.wait_for_timeout(600)  # two of its words
    person.say("hello")
    person.sees("hello", "I heard 1: hello")


def test_two_windows_see_each_others_turns(come: Come) -> None:
    one = come()
    one.say("hello")
    other = come(one.page.url.removeprefix(one.address))
    expect(other.messages).to_have_count(2)
    other.type("count")
    expect(one.page.locator(".running")).to_contain_text("2 3")
    one.idle()
    one.sees("hello", "I heard 1", "count", "10 11")


def test_a_thread_that_somebody_else_deletes_is_left(person: Person) -> None:
    person.allows("404")
    person.say("hello")
    person.page.get_by_label("Message to the agent").fill("again")
    thread = person.page.url.partition("thread=")[2]
    httpx.delete(f"{person.address}threads/{thread}").raise_for_status()
    expect(person.page.get_by_text("The thread is no longer there.")).to_be_visible()
    expect(person.page.get_by_role("heading", name="What is it about?")).to_be_visible()
    expect(person.page.get_by_label("Message to the agent")).to_have_value("again")
    assert thread not in person.page.url


def test_a_lost_connection_is_taken_up_again(come: Come, address: str) -> None:
    relay = Relay(int(address.rstrip("/").rpartition(":")[2]))
    person = come(at=relay.address)
    person.allows("ERR_")
    person.type("count")
    expect(person.messages.last).to_contain_text("0 1")
    relay.cut()
    expect(person.page.get_by_text("The connection is lost.")).to_be_visible()
    relay.mend()
    person.idle()
    person.sees("count", "0 1 2 3 4 5 6 7 8 9 10 11")


def test_a_server_that_is_away_is_told_and_nothing_is_lost(person: Person) -> None:
    person.allows("ERR_INTERNET_DISCONNECTED")
    person.page.context.set_offline(True)
    person.type("hello")
    expect(person.page.get_by_text("The connection is lost.")).to_be_visible()
    person.page.context.set_offline(False)
    person.idle()
    person.sees("hello", "I heard 1: hello")


def test_a_thread_stays_while_the_server_is_away(person: Person) -> None:
    person.allows("ERR_INTERNET_DISCONNECTED")
    person.say("hello")
    person.page.context.set_offline(True)
    person.page.wait_for_timeout(3000)  # longer than from one look at what others do to the next
    person.sees("hello", "I heard 1: hello")


@pytest.mark.parametrize("within", ["another thread", "the same thread"])
def test_what_cannot_be_read_comes_when_the_server_is_back(person: Person, within: str) -> None:
    person.allows("ERR_INTERNET_DISCONNECTED")
    person.say("hello")
    person.say("again")
    person.act("I heard 1", "Continue from here")
    person.sees("hello", "I heard 1: hello")
    person.click("New conversation" if within == "another thread" else "Go to the newest")
    expect(person.page.get_by_text("as a new branch")).to_have_count(0)
    person.page.context.set_offline(True)
    person.page.go_back()
    problem = person.page.get_by_role("main").get_by_role("alert")
    expect(problem).to_contain_text("The server cannot be reached.")
    person.page.context.set_offline(False)
    person.sees("hello", "I heard 1: hello")
    expect(person.page.get_by_text("as a new branch")).to_be_visible()
    expect(problem).to_have_count(0)


def test_an_unknown_thread_is_told(come: Come) -> None:
    person = come("?thread=no-such-thread")
    person.allows("404")
    expect(person.page.get_by_role("alert")).to_contain_text("thread_not_found")
    person.click("New conversation")
    person.say("hello")


HOSTILE = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg onload='window.hit = 1'><a xlink:href='javascript:window.hit=1'>x</a></svg>",
    "[click](javascript:window.hit=1)",
    "<a href='data:text/html,<script>window.hit=1</script>'>x</a>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<form action='http://127.0.0.1:9'><button>x</button></form>",
    "<style>* { display: none }</style><p style='position: fixed; inset: 0'>over all</p>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hit=1>",
    "![](http://127.0.0.1:9/seen.png)",
    "<details open ontoggle='window.hit = 1'>x</details>",
    "<input autofocus onfocus='window.hit = 1'>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_is_written_can_run(person: Person, text: str) -> None:
    person.allows("Content Security Policy")  # the sanitizer parses what it removes
    asked: list[str] = []
    person.page.on("request", lambda request: asked.append(request.url))
    person.say(f"say before {text} after")
    bubble = person.messages.last
    expect(bubble).to_be_visible()
    forbidden = (
        "script, iframe, form, style, svg, math, input, button, [style], [onerror], [onload], [onfocus], [ontoggle]"
    )
    assert bubble.locator(forbidden).count() == 0
    for href in bubble.locator("a").evaluate_all("links => links.map(link => link.protocol)"):
        assert href in ("http:", "https:", "mailto:", ":", "")
    for link in bubble.locator("a[href]").all():
        link.click(modifiers=["Control"], no_wait_after=True)
    assert person.page.evaluate("window.hit") is None
    assert [url for url in asked if not url.startswith(person.address)] == []


def test_markdown_code_and_images_are_drawn(person: Person) -> None:
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    person.say(f"say **bold** and `code` ![dot]({pixel})")
    bubble = person.messages.last
    expect(bubble.locator("strong")).to_have_text("bold")
    expect(bubble.locator("code")).to_have_text("code")
    assert bubble.locator("img").evaluate("image => image.naturalWidth") == 1


def test_nothing_comes_from_another_host_and_little_in_all(come: Come, address: str) -> None:
    person = come()
    loaded = person.page.evaluate(
        "() => performance.getEntriesByType('resource').map(each => [each.name, each.decodedBodySize])"
    )
    files = {name: size for name, size in loaded if "/page/" in name}
    assert all(name.startswith(address) for name, _ in loaded)
    assert len(files) > 10
    assert sum(files.values()) < 250_000
    person.page.goto(f"{address}docs")
    expect(person.page.get_by_role("heading", name="HTTP interface")).to_be_visible()
    loaded = person.page.evaluate("() => performance.getEntriesByType('resource').map(each => each.name)")
    assert all(name.startswith(address) for name in loaded)
    route = person.page.locator("details").filter(has_text="List checkpoints").first
    route.locator("summary").click()
    expect(route.get_by_text("newest first")).to_be_visible()


@pytest.mark.parametrize("path", ["", "docs", "page/app.js", "page/vendor/marked.js"])
def test_the_policy_forbids_what_the_page_does_not_need(address: str, path: str) -> None:
    headers = httpx.get(address + path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
