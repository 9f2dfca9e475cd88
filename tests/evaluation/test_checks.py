"""Each check, on turns as they may have gone."""

from typing import Any

import pytest

from stateful_agent.evaluation.checks import (
    CHECKS,
    Finding,
    every_turn_is_answered,
    forks_do_not_leak,
    in_time,
    memory_within_thread,
    no_memory_across_threads,
    refusals_lose_nothing,
)
from stateful_agent.evaluation.conversations import Conversation

FIRST = {"input": "I'm headed to Oslo!", "as": "oslo"}
REFUSED = {"refused": "x"}
ELSEWHERE = {"lacks": "Oslo", "thread": "b"}
GOOD = {"answer": "Noted.", "error": None, "seconds": 0.1}


def checked(check: Any, turn: dict[str, Any], played: dict[str, Any]) -> Finding | None:
    """What a check finds of a conversation whose second turn is this one."""
    conversation = Conversation.model_validate({"name": "c", "turns": [FIRST, {"input": "Where to?"} | turn]})
    found: Finding | None = check(conversation, [GOOD, GOOD | played])
    return found


@pytest.mark.parametrize(
    ("check", "turn", "played", "why"),
    [
        (every_turn_is_answered, {}, {}, ""),
        (every_turn_is_answered, {}, {"answer": " "}, "turn 2: empty"),
        (every_turn_is_answered, {}, {"error": "busy", "message": "Wait."}, "turn 2: busy Wait."),
        (every_turn_is_answered, REFUSED, {"error": "x", "answer": ""}, ""),
        (memory_within_thread, {"contains": "Oslo"}, {"answer": "To OSLO."}, ""),
        (memory_within_thread, {"contains": ["a", "b"]}, {"answer": "a c"}, "turn 2 does not say b"),
        (no_memory_across_threads, ELSEWHERE, {"answer": "Who knows."}, ""),
        (no_memory_across_threads, ELSEWHERE, {"answer": "Oslo."}, "turn 2 says Oslo"),
        (forks_do_not_leak, {"from": "oslo", "lacks": "Rome"}, {"answer": "Oslo."}, ""),
        (forks_do_not_leak, {"from": "oslo", "lacks": "Rome"}, {"answer": "Rome."}, "turn 2 says Rome"),
        (refusals_lose_nothing, REFUSED, {"error": "x", "kept": True}, ""),
        (refusals_lose_nothing, REFUSED, {"error": "x", "kept": False}, "turn 2: the thread is not where it was"),
        (refusals_lose_nothing, REFUSED, {"error": "y", "kept": True}, "turn 2: y instead of x"),
        (refusals_lose_nothing, REFUSED, {"kept": True}, "turn 2: an answer instead of x"),
    ],
)  # fmt: skip
def test_a_check(check: Any, turn: dict[str, Any], played: dict[str, Any], why: str) -> None:
    assert checked(check, turn, played) == Finding(not why, why)


@pytest.mark.parametrize("check", [one for one in CHECKS if one is not every_turn_is_answered])
def test_a_conversation_without_what_a_check_is_for(check: Any) -> None:
    assert checked(check, {}, {}) is None


def test_the_same_thread_and_a_fork_are_no_other_thread() -> None:
    assert checked(no_memory_across_threads, {"lacks": "Oslo"}, {}) is None
    fork = {"from": "oslo", "lacks": "Oslo", "contains": "Oslo"}
    assert checked(no_memory_across_threads, fork, {}) is None
    assert checked(memory_within_thread, fork, {}) is None


def test_time() -> None:
    turns = [GOOD, GOOD | {"seconds": 2.04}]
    assert in_time(turns, 3) == Finding(True, "")
    assert in_time(turns, 1) == Finding(False, "turn 2: 2.0 s")
