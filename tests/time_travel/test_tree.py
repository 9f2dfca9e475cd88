"""A thread's history as a tree: text, and a picture."""

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

from conftest import say

from stateful_agent.time_travel.tree import Tree


def entry(name: str, parent: str | None, **more: Any) -> dict[str, Any]:
    known = {"nodes": ["model"], "next_nodes": [], "source": "loop", "last_message": f"at {name}"}
    return known | {"checkpoint_id": name, "parent_checkpoint_id": parent} | more


def test_a_line() -> None:
    assert str(Tree([entry("b", "a", next_nodes=["tools"]), entry("a", None)])) == (
        "○  a  model  at a\n"
        "●  b  model → tools  at b"
    )  # fmt: skip


def test_branches_have_lanes() -> None:
    tree = Tree([entry("a", None), entry("b", "a"), entry("c", "a"), entry("d", "b"), entry("e", "a"), entry("f", "c")])
    assert [line.partition("  model")[0] for line in str(tree).splitlines()] == [
        "○─┬─╮  a",
        "○ │ │  b",
        "│ ○ │  c",
        "○ │ │  d",
        "  │ ○  e",
        "  ●    f",
    ]


def test_a_lane_that_has_ended_is_taken_again() -> None:
    tree = Tree([entry("a", None), entry("b", "a"), entry("c", "a"), entry("d", "c"), entry("e", "c")])
    assert [line.partition("  model")[0] for line in str(tree).splitlines()] == [
        "○─╮  a",
        "○ │  b",
        "╭─○  c",
        "│ ○  d",
        "●    e",
    ]


def test_a_page_begins_where_its_oldest_checkpoint_does() -> None:
    assert str(Tree([entry("b", "not in this page")])) == "●  b  model  at b"
    assert str(Tree()) == ""


def test_what_is_asked_at_the_beginning_of_a_turn_is_in_no_message_yet() -> None:
    assert (
        str(Tree([entry("a", None, source="input", nodes=[], next_nodes=["__start__"])])) == "●  a  input → __start__"
    )


def test_the_picture_is_well_formed_whatever_was_said() -> None:
    picture = Tree([entry("a", None, last_message="<script>&\n'\""), entry("b", "a"), entry("c", "a")])._repr_svg_()
    shapes = [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture)]
    assert (shapes.count("circle"), shapes.count("path"), shapes.count("text")) == (3, 2, 3)
    assert "<script>" not in picture
    assert ElementTree.fromstring(Tree()._repr_svg_()) is not None


def test_a_history_and_branches_are_lists_that_show_themselves(agent: Any) -> None:
    say(agent, "hello", thread_id="t")
    history = agent.get_checkpoint_history("t")
    assert str(history).count("\n") == 2
    assert "svg" in agent.list_branches("t")._repr_svg_()
    assert json.loads(json.dumps(history)) == history
