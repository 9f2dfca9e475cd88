"""The messages of a thread, each stored once.

LangGraph stores all of a conversation anew whenever it grows. Here the thread counts its messages as they are added,
on whichever branch, and a checkpoint's list of messages is stored as ranges of these numbers: on a thread without forks
that is one range, however long it is. A process remembers for a while what it has read or written, so a turn reads from
the database only what is new to it.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeGuard

from langchain_core.messages import BaseMessage

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.heavy_work import unhurried

Ranges = list[list[int]]
"""The first and the last number of each range."""

ChannelKey = tuple[str, str]
"""Where a list is: the namespace and the channel."""

MESSAGE_LIST = "messages"
"""The type of a stored list of messages: its blob is its ranges, as Postgres writes them, and a seal if encrypted."""

CACHED_BYTES = 4 * 1024 * 1024
"""How much of what is stored a process remembers. In cache it takes a few times as much."""


@dataclass
class _Thread:
    created_at: datetime | None = None
    messages: dict[int, BaseMessage] = field(default_factory=dict)
    size: int = 0


class MessageCache:
    """The messages of the threads that this process used last, as they are stored."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, _Thread] = OrderedDict()
        self._size = 0

    def recall(self, thread_id: str) -> _Thread:
        """What is known of a thread."""
        return self._threads.get(thread_id) or _Thread()

    def note(self, thread_id: str, created_at: datetime | None, messages: dict[int, BaseMessage], size: int) -> None:
        """Remember messages that are stored, by number, and the bytes that they take there.

        A thread that was deleted may have begun again, with other messages: those of the old one are forgotten.
        """
        thread = self._threads.pop(thread_id, None) or _Thread(created_at)
        if thread.created_at != created_at:
            self._size -= thread.size
            thread = _Thread(created_at)
        thread.messages |= messages
        thread.size += size
        self._threads[thread_id] = thread
        self._size += size
        while self._size > CACHED_BYTES:
            _, forgotten = self._threads.popitem(last=False)
            self._size -= forgotten.size


class MessageLog:
    """The messages of one thread, as a turn reads them and adds to them."""

    def __init__(self, cache: MessageCache, serializer: Serializer, thread_id: str) -> None:
        self.thread_id = thread_id
        self.last = 0
        """The greatest number that the thread has given."""
        self._cache = cache
        self._serializer = serializer
        self._created_at = cache.recall(thread_id).created_at
        self._messages = dict(cache.recall(thread_id).messages)
        self._lists: dict[ChannelKey, tuple[list[BaseMessage], Ranges]] = {}  # as they were loaded or dumped last
        self._maybe_changed: set[str | None] = set()

    def known(self) -> dict[str, Any]:
        """The numbers of the messages that need not be read, as parameters of `agent_read` and `agent_take`."""
        ranges: Ranges = []
        for number in sorted(self._messages):
            _extend(ranges, number)
        return {"known_of": self._created_at, "known": _as_text(ranges)}

    async def learn(self, created_at: datetime | None, unknown: Iterable[tuple[bytes, bytes, bytes]] | None) -> None:
        """Take in the messages that were read, of the thread that was created then."""
        if created_at != self._created_at:
            self._created_at, self._messages = created_at, {}
        new: dict[int, BaseMessage] = {}
        size = 0
        async for number, kind, blob in unhurried(unknown or ()):
            new[int(number)] = self._serializer.for_message(int(number)).loads_typed((kind.decode(), blob))
            size += len(blob)
        self._messages |= new
        self._cache.note(self.thread_id, created_at, new, size)

    async def load(self, key: ChannelKey, blob: bytes) -> list[BaseMessage]:
        """The list of messages that is stored so. Whoever changes one of them changes no other turn's.

        Raises:
            Unreadable: the list was changed, or a message of it is gone.
        """
        try:
            ranges = json.loads(f"[{unsealed(self._serializer.cipher, blob)[1:-1]}]")
            numbers = (number for first, last in ranges for number in range(first, last + 1))
            messages = [_copy_message(self._messages[number]) async for number in unhurried(numbers)]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._serializer.cipher.unreadable() from None
        self._lists[key] = (messages, ranges)
        return list(messages)

    async def dump(self, key: ChannelKey, messages: list[BaseMessage]) -> tuple[bytes, dict[int, tuple[str, bytes]]]:
        """A list of messages as it is stored, and those in it that are new to the thread: by number, serialized."""
        new: dict[int, tuple[str, bytes]] = {}
        before, ranges = self._lists.get(key, ([], []))
        kept = len(before)
        if before and messages[:kept] == before and not self._maybe_changed:  # it has only grown, as these lists do
            ranges = [[first, last] for first, last in ranges]
            held = self._held() if len(self._lists) > 1 else {}
        else:
            kept, ranges, held = 0, [], self._held()
        async for message in unhurried(messages[kept:]):
            number, same = held.get(message.id, (0, None))
            is_same = same is message and message.id not in self._maybe_changed
            if not is_same and not (number and self._messages[number] == message):
                self.last = number = self.last + 1
                self._messages[number] = _copy_message(message)
                new[number] = self._serializer.for_message(number).dumps_typed(message)
            _extend(ranges, number)
        self._lists[key] = (list(messages), ranges)
        return sealed(self._serializer.cipher, _as_text(ranges)), new

    def check_for_changes(self, value: Any) -> None:
        """A step has written this: a message in it that a list has already may have been changed in place."""
        written = {id(message): message for message in (value if isinstance(value, list) else [value])}
        for messages, _ in self._lists.values():
            self._maybe_changed.update(message.id for message in messages if id(message) in written)

    def _held(self) -> dict[str | None, tuple[int, BaseMessage]]:
        """The messages of all lists by their ids, with their numbers."""
        held: dict[str | None, tuple[int, BaseMessage]] = {}
        for messages, ranges in self._lists.values():
            numbers = (number for first, last in ranges for number in range(first, last + 1))
            held |= {message.id: (number, message) for number, message in zip(numbers, messages, strict=True)}
        return held

    def stored(self, new: dict[int, int]) -> None:
        """New messages are on disk, by number, and take so many bytes there."""
        messages = {number: self._messages[number] for number in new}
        self._cache.note(self.thread_id, self._created_at, messages, sum(new.values()))


def is_message_list(value: Any) -> TypeGuard[list[BaseMessage]]:
    """Whether a channel's value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(message, BaseMessage) for message in value)


def sealed(cipher: Cipher, ranges: str) -> bytes:
    """Ranges as they are stored."""
    return f"{ranges} {cipher.seal(MESSAGE_LIST + ranges)}".rstrip().encode()


def unsealed(cipher: Cipher, blob: bytes) -> str:
    """Ranges that are stored so. Raises `Unreadable` if they were changed."""
    ranges, _, seal = blob.decode().partition(" ")
    cipher.check_seal(MESSAGE_LIST + ranges, seal)
    return ranges


def _extend(ranges: Ranges, number: int) -> None:
    if ranges and ranges[-1][1] == number - 1:
        ranges[-1][1] = number
    else:
        ranges.append([number, number])


def _as_text(ranges: Ranges) -> str:
    return "{" + ",".join(f"[{first},{last}]" for first, last in ranges) + "}"


def _copy_message(message: BaseMessage) -> BaseMessage:
    """A copy that shares nothing that can be changed, by way of what pickle would be given."""
    state = message.__getstate__()
    values = state["__dict__"] = state["__dict__"].copy()
    for name, value in values.items():
        kind = value.__class__
        if kind is dict or kind is list:  # not isinstance: this is done a thousand times a turn
            values[name] = _copy(value) if value else kind()
    state["__pydantic_extra__"] = _copy(state["__pydantic_extra__"])
    state["__pydantic_fields_set__"] = state["__pydantic_fields_set__"].copy()
    new = message.__class__.__new__(message.__class__)
    new.__setstate__(state)
    return new


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_copy(part) for part in value]
    return value
