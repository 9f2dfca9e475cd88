"""What was lost, judged from what clients noted and from what is found in the end. Pure.

A turn that named no checkpoint goes on from the head, the newest checkpoint. So its parent is no older than any
checkpoint that had been acknowledged before it was asked for; and it makes no branch: where a checkpoint has several
children, a client named it for each but one. Together: whatever was acknowledged on a thread is in the lineage of
each later turn at the head, unless a client led away from it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from soak.notes import Attempt, Tree

Items = list[dict[str, Any]]


def losses(attempts: Iterable[Attempt], trees: dict[str, Tree]) -> list[str]:
    """A sentence for each promise that was broken."""
    by_thread: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_thread.setdefault(attempt.thread_id, []).append(attempt)
    return [
        f"thread {thread_id}: {loss}"
        for thread_id, asked in by_thread.items()
        for loss in _lost(asked, trees.get(thread_id) or Tree({}, [], {}))
    ]


def _lost(asked: list[Attempt], tree: Tree) -> Iterator[str]:
    acknowledged = [attempt for attempt in asked if attempt.acknowledged is not None]
    for attempt in acknowledged:
        yield from _not_as_acknowledged(attempt, tree)
        if attempt.named is None:
            yield from _not_at_the_head(attempt, acknowledged)
    for tip in tree.tips:
        last_words = Counter(user_words(tree.items[tip]))
        yield from (f"{word} is {n} times in the branch of {tip}" for word, n in last_words.items() if n > 1)
        yield from (f"the branch of {tip} has {fault}" for fault in malformed(tree.items[tip], complete=False))
    yield from _unexplained_branches(asked, tree)


def _not_as_acknowledged(attempt: Attempt, tree: Tree) -> Iterator[str]:
    checkpoint = f"{attempt.word} was acknowledged at {attempt.checkpoint_id}"
    if attempt.checkpoint_id not in tree.parents:
        yield f"{checkpoint}, which is not there"
        return
    items = tree.items[attempt.checkpoint_id]
    if attempt.word not in user_words(items):
        yield f"{checkpoint}, which does not hold it"
    if attempt.answer is not None and (not items or text_of(items[-1]) != attempt.answer):
        yield f"{checkpoint}, which does not end with its answer"
    yield from (f"{checkpoint}, which has {fault}" for fault in malformed(items, complete=True))
    if attempt.named not in (None, attempt.parent_id):
        yield f"{checkpoint}, and continued from {attempt.parent_id} instead of {attempt.named}"
    if attempt.parent_id is not None and attempt.parent_id not in lineage(attempt.checkpoint_id, tree.parents):
        yield f"{checkpoint}, which does not come from {attempt.parent_id}"


def _not_at_the_head(attempt: Attempt, acknowledged: list[Attempt]) -> Iterator[str]:
    for other in acknowledged:
        assert other.acknowledged is not None
        if other.acknowledged < attempt.sent and other.checkpoint_id > (attempt.parent_id or ""):
            yield f"{attempt.word} continued from {attempt.parent_id}, not from {other.checkpoint_id} ({other.word})"


def _unexplained_branches(asked: list[Attempt], tree: Tree) -> Iterator[str]:
    words = {(attempt.named, attempt.word) for attempt in asked if attempt.named is not None}
    for checkpoint, children in branchings(tree.parents).items():
        last_words = [user_words(tree.items[child])[-1:] for child in children]
        unexplained = [
            child for child, word in zip(children, last_words, strict=True) if (checkpoint, *word) not in words
        ]
        if len(unexplained) > 1:
            yield f"nobody asked for the branches from {checkpoint} to {' and '.join(unexplained)}"


def branchings(parents: dict[str, str | None]) -> dict[str | None, list[str]]:
    """The checkpoints with several children; under None the roots, if there are several."""
    children: dict[str | None, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    return {parent: found for parent, found in children.items() if len(found) > 1}


def lineage(checkpoint_id: str, parents: dict[str, str | None]) -> Iterator[str]:
    """A checkpoint and those that it comes from."""
    checkpoint: str | None = checkpoint_id
    while checkpoint is not None:
        yield checkpoint
        checkpoint = parents.get(checkpoint)


def malformed(items: Items, *, complete: bool) -> Iterator[str]:
    """What a strict provider would refuse. Calls may be open at the end of what is not `complete`."""
    waiting: set[Any] = set()
    before = None
    for item in items:
        kind = item["type"] if item["type"] != "message" else item["role"]
        if kind == "function_call_output":
            if item["call_id"] not in waiting:
                yield f"a result without its call, {item['call_id']}"
            waiting.discard(item["call_id"])
        elif waiting and kind != "function_call":
            yield f"calls without their results, {sorted(waiting)}"
            waiting.clear()
        if kind in ("assistant", "function_call") and before == "assistant":
            yield f"two answers in a row, at {item['id']}"
        if kind == "function_call":
            waiting.add(item["call_id"])
        before = kind
    if waiting and complete:
        yield f"calls without their results, {sorted(waiting)}"


def user_words(items: Items) -> list[str]:
    """The first word of each of the user's messages."""
    return [text_of(item).split()[0] for item in items if item.get("role") == "user"]


def text_of(item: dict[str, Any]) -> str:
    return "".join(part["text"] for part in item.get("content", ()))
