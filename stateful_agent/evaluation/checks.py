"""What is checked of a conversation that was played: pure functions, which need no model."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from stateful_agent.evaluation.conversations import Conversation, Turn
from stateful_agent.evaluation.play import Played


class Finding(NamedTuple):
    """Whether a check holds, and where it does not."""

    holds: bool
    why: str


Check = Callable[[Conversation, list[Played]], "Finding | None"]
"""`None`: the conversation has nothing to check so."""


def every_turn_is_answered(conversation: Conversation, turns: list[Played]) -> Finding | None:
    """Turns that are not to be refused end without an error, and with words."""
    pairs = _numbered(conversation, turns, lambda turn: turn.refused is None)
    return _finding(
        f"{turn}: {played['error'] or 'empty'} {played.get('message', '')}".rstrip()
        for turn, _, played in pairs
        if played["error"] or not played["answer"].strip()
    )


def memory_within_thread(conversation: Conversation, turns: list[Played]) -> Finding | None:
    """What has to be known on a thread is."""
    return _texts(conversation, turns, lambda turn: bool(turn.contains) and turn.from_ is None)


def no_memory_across_threads(conversation: Conversation, turns: list[Played]) -> Finding | None:
    """What was said on one thread only is not known on another."""
    first = conversation.turns[0].thread
    return _texts(conversation, turns, lambda turn: bool(turn.lacks) and turn.from_ is None and turn.thread != first)


def forks_do_not_leak(conversation: Conversation, turns: list[Played]) -> Finding | None:
    """A fork knows what was before it, and nothing of what came after."""
    return _texts(conversation, turns, lambda turn: turn.from_ is not None)


def refusals_lose_nothing(conversation: Conversation, turns: list[Played]) -> Finding | None:
    """What is to be refused is, in the way that it should be, and its thread is where it was."""
    pairs = list(_numbered(conversation, turns, lambda turn: turn.refused is not None))
    if not pairs:
        return None
    problems = []
    for number, turn, played in pairs:
        if played["error"] != turn.refused:
            problems.append(f"{number}: {played['error'] or 'an answer'} instead of {turn.refused}")
        elif not played["kept"]:
            problems.append(f"{number}: the thread is not where it was")
    return _finding(iter(problems))


CHECKS: tuple[Check, ...] = (
    every_turn_is_answered,
    memory_within_thread,
    no_memory_across_threads,
    forks_do_not_leak,
    refusals_lose_nothing,
)


def in_time(turns: list[Played], seconds: float) -> Finding:
    """No turn takes longer than that."""
    return _finding(
        f"turn {number}: {played['seconds']:.1f} s"
        for number, played in enumerate(turns, 1)
        if played["seconds"] > seconds
    )


def _texts(conversation: Conversation, turns: list[Played], concerns: Callable[[Turn], bool]) -> Finding | None:
    """Whether the answers to the turns concerned hold what they have to, and not what they must not."""
    pairs = list(_numbered(conversation, turns, concerns))
    if not pairs:
        return None
    problems = []
    for number, turn, played in pairs:
        answer = played["answer"].casefold()
        problems += [f"{number} does not say {text}" for text in turn.contains if text.casefold() not in answer]
        problems += [f"{number} says {text}" for text in turn.lacks if text.casefold() in answer]
    return _finding(iter(problems))


def _numbered(
    conversation: Conversation, turns: list[Played], concerns: Callable[[Turn], bool]
) -> Iterator[tuple[str, Turn, Played]]:
    for number, (turn, played) in enumerate(zip(conversation.turns, turns, strict=True), 1):
        if concerns(turn):
            yield f"turn {number}", turn, played


def _finding(problems: Iterator[str]) -> Finding:
    why = "; ".join(problems)
    return Finding(not why, why)
