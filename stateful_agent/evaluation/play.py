"""Playing a conversation with an agent."""

import time
from contextlib import suppress
from typing import Any

from stateful_agent.evaluation.asking import Ask, Refused
from stateful_agent.evaluation.conversations import Conversation

Played = dict[str, Any]
"""A turn as it went: `answer`, `error` (a code) with its `message`, `first_token_seconds`, `seconds`; of one that was
refused also `kept`, whether its thread is where it was."""


def play(conversation: Conversation, ask: Ask) -> list[Played]:
    """Play a conversation on threads of its own, which are deleted afterwards. Returns its turns as they went."""
    threads: dict[str, str] = {}
    checkpoints: dict[str, dict[str, str]] = {}
    turns: list[Played] = []
    try:
        for turn in conversation.turns:
            place = checkpoints[turn.from_] if turn.from_ else {}
            if turn.thread in threads and not place:
                place = {"thread_id": threads[turn.thread]}
            if turn.checkpoint_id:
                place = place | {"checkpoint_id": turn.checkpoint_id}
            before = _head(ask, place) if turn.refused else None
            played, left = play_turn(ask, turn.input, place)
            if turn.refused:
                played["kept"] = _head(ask, place) == before
            if left:
                threads.setdefault(turn.thread, left["thread_id"])
                if turn.as_:
                    checkpoints[turn.as_] = {name: left[name] for name in ("thread_id", "checkpoint_id")}
            turns.append(played)
        return turns
    finally:
        for thread in threads.values():
            forget(ask, thread)


def play_turn(ask: Ask, text: str, place: dict[str, str]) -> tuple[Played, dict[str, Any] | None]:
    """Say something at a place in a conversation. Returns the turn as it went, and the `custom_outputs` of its end."""
    began = time.perf_counter()
    played: Played = {"input": text, "answer": "", "error": None}
    left: dict[str, Any] | None = None
    try:
        for event in ask({"input": [{"role": "user", "content": text}], "custom_inputs": place}):
            match event["type"]:
                case "response.output_text.delta":
                    played.setdefault("first_token_seconds", time.perf_counter() - began)
                    played["answer"] += event["delta"]
                case "response.completed" | "response.incomplete":
                    left = event.get("custom_outputs") or event["response"]["custom_outputs"]
    except Refused as refused:
        played |= {"error": refused.code, "message": str(refused)}
    played["seconds"] = time.perf_counter() - began
    return played, left


def wake(ask: Ask) -> None:
    """Let the agent open its database, for which the first turn would wait.

    Raises:
        Refused: it does not answer.
    """
    for _ in ask({"input": [], "custom_inputs": {"operation": "list_threads", "limit": 1}}):
        pass


def forget(ask: Ask, thread: str) -> None:
    """Delete a thread. One that stays harms nobody."""
    with suppress(Refused):
        _operate(ask, "delete_thread", thread)


def _head(ask: Ask, place: dict[str, str]) -> Any:
    """Where a thread is, `None` for one that there is not."""
    if "thread_id" not in place:
        return None
    with suppress(Refused):
        return _operate(ask, "get_checkpoint_state", place["thread_id"])["checkpoint_id"]
    return None


def _operate(ask: Ask, operation: str, thread: str) -> Any:
    *_, last = ask({"input": [], "custom_inputs": {"operation": operation, "thread_id": thread}})
    return (last.get("custom_outputs") or last["response"]["custom_outputs"])["result"]
