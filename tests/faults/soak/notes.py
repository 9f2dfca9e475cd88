"""What clients note of what they did."""

from dataclasses import dataclass, field
from time import monotonic


@dataclass
class Attempt:
    """A turn or an edit that a client asked for, acknowledged or not."""

    thread_id: str
    word: str
    """The client's text, which no other has sent."""

    named: str | None = None
    """The checkpoint it asked to continue from, or to edit. Unset: the head."""

    sent: float = field(default_factory=monotonic)
    acknowledged: float | None = None
    """When it was acknowledged."""

    checkpoint_id: str = ""
    parent_id: str | None = None
    answer: str | None = None
    """What it was answered. An edit has no answer."""


@dataclass
class Tree:
    """What is found of a thread in the end."""

    parents: dict[str, str | None]
    """The parent of each checkpoint."""

    tips: list[str]
    items: dict[str, list[dict[str, object]]]
    """The messages at a checkpoint, and those pending there: at tips, branchings and acknowledged checkpoints."""
