"""Time travel on the page: forks, replays, edits, the tree, what a checkpoint holds, and two branches side by side."""

import re
from collections.abc import Callable

import httpx
from browsing import Person
from playwright.sync_api import Route, expect

Come = Callable[..., Person]


def test_to_edit_and_ask_again_is_a_fork_and_both_are_kept(person: Person) -> None:
    person.say("one")
    person.say("two")
    person.rewrite("two", "Edit and ask again", "deux", "Ask again")
    person.idle()
    person.sees("one", "I heard 1: one", "deux", "I heard 2: one | deux")
    expect(person.page.get_by_role("group", name="Versions")).to_have_text(re.compile("2 / 2"))
    person.click("Previous version")
    person.sees("one", "I heard 1: one", "two", "I heard 2: one | two")
    expect(person.tree).to_contain_text("2 branches")


def test_the_first_question_can_be_asked_again(person: Person) -> None:
    person.say("one")
    person.rewrite("one", "Edit and ask again", "uno", "Ask again")
    person.idle()
    person.sees("uno", "I heard 1: uno")
    person.click("Previous version")
    person.sees("one", "I heard 1: one")


def test_to_regenerate_is_a_replay(person: Person) -> None:
    person.say("one")
    person.act("I heard 1", "Regenerate")
    person.idle()
    person.sees("one", "I heard 1: one")
    expect(person.page.get_by_role("group", name="Versions")).to_have_text(re.compile("2 / 2"))


def test_the_branch_one_looks_at_goes_on(person: Person) -> None:
    person.say("one")
    person.say("two")
    person.rewrite("two", "Edit and ask again", "deux", "Ask again")
    person.idle()
    person.click("Previous version")
    expect(person.messages.last).to_contain_text("I heard 2: one | two")
    person.say("three")
    person.sees("one", "I heard 1", "two", "I heard 2", "three", "I heard 3: one | two | three")


def test_to_continue_from_an_earlier_turn(person: Person) -> None:
    person.say("one")
    person.say("two")
    person.act("I heard 1", "Continue from here")
    person.sees("one", "I heard 1: one")
    expect(person.page.get_by_text("as a new branch")).to_be_visible()
    person.say("other")
    person.sees("one", "I heard 1", "other", "I heard 2: one | other")


def test_one_may_look_elsewhere_while_a_turn_is_at_work(person: Person) -> None:
    person.say("one")
    person.say("two")
    person.type("count")
    expect(person.page.locator(".running")).to_contain_text("0 1")
    person.nodes.first.get_by_role("button").click()
    expect(person.page.get_by_text("A turn is at work on another branch.")).to_be_visible()
    person.sees("one", "I heard 1: one")
    expect(person.page.get_by_role("button", name="Send")).to_be_visible(timeout=15_000)
    person.sees("one", "I heard 1: one")
    person.click("Go to the newest")
    expect(person.messages.last).to_contain_text("10 11")


def test_what_no_checkpoint_comes_before_cannot_be_asked_again(come: Come, address: str) -> None:
    begun = {"thread_id": "begun", "new_messages": [{"role": "user", "content": "hello"}]}
    httpx.post(f"{address}threads", json=begun).raise_for_status()
    person = come("?thread=begun")
    person.message("hello").hover()
    again = person.page.get_by_role("button", name="Edit and ask again")
    expect(again).to_have_attribute("title", "No checkpoint comes before it")
    person.click("Run it from here")
    person.idle()
    person.sees("hello", "I heard 1: hello")


def test_to_edit_in_place_asks_no_model(person: Person) -> None:
    person.say("one")
    person.say("two")
    person.rewrite("one", "Edit in place", "uno", "Save")
    expect(person.messages.first).to_have_text("uno")
    person.sees("uno", "I heard 1: one", "two", "I heard 2: one | two")
    person.say("three")
    expect(person.messages.last).to_contain_text("I heard 3: uno | two | three")


def test_to_delete_a_message_takes_it_from_what_follows(person: Person) -> None:
    person.say("one")
    person.say("two")
    person.act("one", "Delete")
    person.click("Delete", person.page.get_by_role("dialog"))
    person.sees("I heard 1: one", "two", "I heard 2: one | two")
    person.say("three")
    person.sees("I heard 1: one", "two", "I heard 2: one | two", "three", "I heard 2: two | three")
    person.rewrite("three", "Edit and ask again", "four", "Ask again")
    person.idle()
    person.sees("I heard 1: one", "two", "I heard 2: one | two", "four", "I heard 2: two | four")


def test_a_link_opens_the_same_view_and_back_and_forward_work(come: Come) -> None:
    person = come()
    person.say("one")
    person.say("two")
    person.nodes.first.get_by_role("button").click()
    person.sees("one", "I heard 1")
    assert "checkpoint=" in person.page.url
    link = person.page.url.removeprefix(person.address)
    other = come(link)
    other.sees("one", "I heard 1")
    person.page.go_back()
    person.sees("one", "I heard 1", "two", "I heard 2")
    person.page.go_forward()
    person.sees("one", "I heard 1")


def test_the_tree_shows_every_checkpoint_on_demand(person: Person) -> None:
    person.say("one")
    expect(person.nodes).to_have_count(1)
    person.page.get_by_label("Every checkpoint").check()
    expect(person.nodes).to_have_count(3)
    expect(person.nodes.last).to_contain_text("model → end")
    person.nodes.nth(1).get_by_role("button").click()
    person.sees("one")
    expect(person.page.get_by_text("in the midst of a turn")).to_be_visible()


def test_the_insides_of_a_checkpoint_and_the_edit_of_a_key(person: Person) -> None:
    person.say("one")
    person.click("Insides")
    dialog = person.page.get_by_role("dialog", name="Checkpoint")
    expect(dialog).to_contain_text("Next")
    expect(dialog).to_contain_text('"1 messages"')
    dialog.get_by_role("tab", name="Changes").click()
    expect(dialog.locator(".added").first).to_contain_text("I heard 1: one")
    dialog.get_by_role("tab", name="JSON").click()
    expect(dialog).to_contain_text('"checkpoint_id"')
    dialog.get_by_role("tab", name="Readable").click()
    person.click("Edit notes")
    dialog.get_by_label("Value of notes").fill("[")
    expect(dialog.get_by_role("button", name="Save as a new checkpoint")).to_have_attribute("title", "It must be JSON")
    dialog.get_by_label("Value of notes").fill('["mine"]')
    person.click("Save as a new checkpoint")
    expect(dialog).to_have_count(0)
    expect(person.nodes).to_have_count(2)
    person.click("Insides")
    expect(dialog).to_contain_text('"mine"')


def test_the_insides_tell_tokens_and_trace(person: Person) -> None:
    person.say("one")
    person.click("Insides")
    dialog = person.page.get_by_role("dialog", name="Checkpoint")
    expect(dialog).to_contain_text("7 in, 5 out")
    expect(dialog).to_contain_text(re.compile("Response *resp_"))
    expect(dialog.get_by_text(re.compile("^tr-"))).to_be_visible()
    expect(dialog.get_by_role("link")).to_have_count(0)  # a database has no pages


def test_a_trace_that_has_a_page_is_linked(come: Come) -> None:
    person = come()
    person.say("one")
    page = "http://mlflow/#/experiments/0/traces?selectedEvaluationId=tr-1"

    def with_page(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"trace_url": page})

    person.page.route("**/state/**", with_page)
    person.click("Insides")
    expect(person.page.get_by_role("dialog").get_by_role("link")).to_have_attribute("href", page)


def test_what_a_subgraph_knows_is_folded(person: Person) -> None:
    person.say("delegate")
    person.click("Insides")
    dialog = person.page.get_by_role("dialog", name="Checkpoint")
    expect(dialog.get_by_text('"prepared"')).to_be_hidden()
    dialog.locator("summary").filter(has_text="helper").click()
    expect(dialog.get_by_text('"prepared"')).to_be_visible()


def test_two_branches_side_by_side(person: Person) -> None:
    person.say("one")
    person.say("two")
    expect(person.tree.get_by_role("button", name="Compare")).to_have_attribute("title", "There is one branch only")
    person.rewrite("two", "Edit and ask again", "deux", "Ask again")
    person.idle()
    expect(person.page.get_by_role("navigation").get_by_role("link").first).to_contain_text("2 turns · 2 branches")
    person.click("Compare")
    dialog = person.page.get_by_role("dialog", name="Compare branches")
    expect(dialog).to_contain_text("They part at checkpoint")
    expect(dialog.get_by_role("region", name="Left")).to_contain_text("I heard 2: one | deux")
    expect(dialog.get_by_role("region", name="Right")).to_contain_text("I heard 2: one | two")
    expect(dialog.get_by_role("region", name="Right")).to_contain_text("2 items in common")
    person.click("Show", dialog.get_by_role("region", name="Right"))
    person.sees("one", "I heard 1", "two", "I heard 2: one | two")
