"""The soak's verdict finds each kind of loss: a soak that cannot fail proves nothing."""

from dataclasses import replace
from typing import Any

import pytest
from soak.notes import Attempt, Tree
from soak.verdict import losses


def user(word: str) -> dict[str, Any]:
    return {"id": word, "type": "message", "role": "user", "content": [{"type": "input_text", "text": word}]}


def assistant(text: str) -> dict[str, Any]:
    return {"id": text, "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


CALL: dict[str, Any] = {"id": "call", "type": "function_call", "call_id": "1"}
RESULT: dict[str, Any] = {"id": "result", "type": "function_call_output", "call_id": "1"}

# w1 and w2 went on at the head; w3 forked after w1.
FIRST = Attempt("t", "w1", None, 0, 1, "1", None, "one")
SECOND = Attempt("t", "w2", None, 2, 3, "2", "1", "two")
FORK = Attempt("t", "w3", "1", 4, 5, "3", "1", "three")
NOT_HEARD_OF = Attempt("t", "w4", None, 6)
BEGUN = [user("w1"), assistant("one")]
TREE = Tree(
    {"1": None, "2": "1", "3": "1"},
    ["3", "2"],
    {
        "1": BEGUN,
        "2": [*BEGUN, user("w2"), CALL, RESULT, assistant("two")],
        "3": [*BEGUN, user("w3"), assistant("three")],
    },
)


def verdict(*changed: Attempt, tree: Tree = TREE, **items: list[Any]) -> list[str]:
    """What is lost if some of it had gone otherwise; `items` are named `at_<checkpoint_id>`."""
    asked = {attempt.word: attempt for attempt in (FIRST, SECOND, FORK, NOT_HEARD_OF, *changed)}
    there = {name.removeprefix("at_"): words for name, words in items.items()}
    return losses(asked.values(), {"t": replace(tree, items=tree.items | there)})


def test_nothing_is_lost() -> None:
    assert verdict() == []


def test_a_thread_that_is_gone() -> None:
    assert "not there" in losses([FIRST], {})[0]


@pytest.mark.parametrize(
    ("items", "loss"),
    [
        ([user("w2"), assistant("two")], []),
        ([*BEGUN, user("w0"), assistant("two")], ["does not hold it"]),
        ([*BEGUN, user("w2")], ["does not end with its answer"]),
        ([*BEGUN, user("w2"), CALL, assistant("two")], ["calls without their results"] * 2),
        ([*BEGUN, user("w2"), RESULT, assistant("two")], ["a result without its call"] * 2),
        ([user("w2"), assistant("one"), assistant("two")], ["two answers in a row"] * 2),
        ([user("w2"), user("w2"), assistant("two")], ["w2 is 2 times"]),
    ],
)
def test_what_was_said(items: list[Any], loss: list[str]) -> None:
    found = verdict(at_2=items)
    assert len(found) == len(loss)
    assert all(part in sentence for part, sentence in zip(loss, found, strict=True))


def test_a_turn_that_was_cut_short_may_leave_calls_open_at_its_tip() -> None:
    cut_short = Tree(TREE.parents | {"4": "3"}, ["4", "2"], TREE.items | {"4": [*TREE.items["3"], user("w4"), CALL]})
    assert verdict(tree=cut_short) == []


def test_a_branch_that_nobody_asked_for() -> None:
    assert "nobody asked for the branches from 1" in verdict(replace(FORK, named=None, sent=2))[0]


def test_a_second_root() -> None:
    assert "from None" in verdict(tree=replace(TREE, parents=TREE.parents | {"2": None}))[-1]


def test_a_turn_that_did_not_go_on_from_the_head() -> None:
    assert verdict(replace(SECOND, sent=6, acknowledged=7)) == ["thread t: w2 continued from 1, not from 3 (w3)"]


def test_a_turn_elsewhere_than_it_says() -> None:
    assert "instead of 2" in verdict(replace(FORK, named="2"))[0]
    assert "does not come from 2" in verdict(replace(FORK, named="2", parent_id="2"))[0]
