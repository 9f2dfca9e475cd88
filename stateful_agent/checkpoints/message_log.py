"""The messages of a thread, each stored once.

LangGraph stores all of a conversation anew whenever it grows. Here the thread numbers its messages as they are said,
on whichever branch, and a checkpoint's list of messages is stored as runs of numbers: on a thread without forks that
is one run, however long it is. What a process has read or said it remembers for a while, so a turn reads from the
database only what is new to it.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString, TypeGuard

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from stateful_agent.checkpoints.serializer import Serializer

Runs = list[list[int]]
"""The first and the last number of each run."""

Place = tuple[str, str]
"""Where a list is: the namespace and the channel."""

LIST = "messages"
"""The type of a stored list of messages: its blob is its runs, as Postgres writes ranges, and a seal if encrypted."""

REMEMBERED_BYTES = 4 * 1024 * 1024
"""How much of what is stored a process remembers. In memory it takes a few times as much."""

# A checkpoint or the newest, as LangGraph reads it, and those of its messages that the process does not know.
READ: LiteralString = (
    """
    SELECT base.*, (
        SELECT array_agg(ARRAY[number::text::bytea, message.type::bytea, message.blob])
        FROM generate_subscripts(channel_values, 1) AS n, unnest(CASE WHEN channel_values[n][2] = 'messages' THEN
            split_part(convert_from(channel_values[n][3], 'UTF8'), ' ', 1)::int4multirange
            - (CASE WHEN began = %(known_of)s::timestamptz THEN %(known)s ELSE '{}' END)::int4multirange
        END) AS missing
        JOIN agent_messages AS message ON message.thread_id = base.thread_id
            AND number >= lower(missing) AND number < upper(missing)
    ) AS unknown
    FROM (
        SELECT found.*, (SELECT created_at FROM agent_threads AS t WHERE t.thread_id = found.thread_id) AS began
        FROM (
    """
    + AsyncPostgresSaver.SELECT_SQL
    + """
            WHERE thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s
                AND checkpoint_id = coalesce(%(checkpoint_id)s, checkpoint_id)
            ORDER BY checkpoint_id DESC LIMIT 1
        ) AS found
    ) AS base
    """
)


@dataclass
class _Thread:
    began: datetime | None = None
    messages: dict[int, BaseMessage] = field(default_factory=dict)
    size: int = 0


class Memory:
    """The messages of the threads that this process used last, as they are stored."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, _Thread] = OrderedDict()
        self._size = 0

    def recall(self, thread_id: str) -> _Thread:
        """What is known of a thread."""
        return self._threads.get(thread_id) or _Thread()

    def note(self, thread_id: str, began: datetime | None, messages: dict[int, BaseMessage], size: int) -> None:
        """Remember messages that are stored, by number, and the bytes that they take there.

        A thread that was deleted may have begun again, with other messages: those of the old one are forgotten.
        """
        thread = self._threads.pop(thread_id, None) or _Thread(began)
        if thread.began != began:
            self._size -= thread.size
            thread = _Thread(began)
        thread.messages |= messages
        thread.size += size
        self._threads[thread_id] = thread
        self._size += size
        while self._size > REMEMBERED_BYTES:
            _, forgotten = self._threads.popitem(last=False)
            self._size -= forgotten.size


class MessageLog:
    """The messages of one thread, as a turn reads them and adds to them."""

    def __init__(self, memory: Memory, serde: Serializer, thread_id: str) -> None:
        self.thread_id = thread_id
        self.last = 0
        """The greatest number that the thread has given."""
        self._memory = memory
        self._serde = serde
        self._began = memory.recall(thread_id).began
        self._messages = dict(memory.recall(thread_id).messages)
        self._lists: dict[Place, tuple[list[BaseMessage], Runs]] = {}  # as they were loaded or dumped last
        self._doubtful: set[str | None] = set()

    def known(self) -> dict[str, Any]:
        """What is known, as the parameters of `READ`."""
        runs: Runs = []
        for number in sorted(self._messages):
            _extend(runs, number)
        return {"known_of": self._began, "known": _as_multirange(runs)}

    def learn(self, began: datetime | None, unknown: Iterable[tuple[bytes, bytes, bytes]] | None) -> None:
        """Take in what `READ` has found of the thread that was begun then."""
        if began != self._began:
            self._began, self._messages = began, {}
        new: dict[int, BaseMessage] = {}
        size = 0
        for number, kind, blob in unknown or ():
            new[int(number)] = self._serde.of_message(int(number)).loads_typed((kind.decode(), blob))
            size += len(blob)
        self._messages |= new
        self._memory.note(self.thread_id, began, new, size)

    def load(self, place: Place, blob: bytes) -> list[BaseMessage]:
        """The list of messages that is stored so. Whoever changes one of them changes no other turn's.

        Raises:
            Unreadable: the list was changed, or a message of it is gone.
        """
        try:
            runs = json.loads(f"[{unsealed(self._serde, blob)[1:-1]}]")
            messages = [_fresh_message(self._messages[n]) for first, last in runs for n in range(first, last + 1)]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._serde.changed() from None
        self._lists[place] = (messages, runs)
        return list(messages)

    def dump(self, place: Place, messages: list[BaseMessage]) -> tuple[bytes, dict[int, tuple[str, bytes]]]:
        """A list of messages as it is stored, and what in it the thread does not hold yet: by number, serialised."""
        new: dict[int, tuple[str, bytes]] = {}
        before, runs = self._lists.get(place, ([], []))
        kept = len(before)
        if before and messages[:kept] == before and not self._doubtful:  # it has only grown, as these lists do
            runs = [list(run) for run in runs]
            held = self._held() if len(self._lists) > 1 else {}
        else:
            kept, runs, held = 0, [], self._held()
        for message in messages[kept:]:
            number, same = held.get(message.id, (0, None))
            is_same = same is message and message.id not in self._doubtful
            if not is_same and not (number and self._messages[number] == message):
                self.last = number = self.last + 1
                self._messages[number] = _fresh_message(message)
                new[number] = self._serde.of_message(number).dumps_typed(message)
            _extend(runs, number)
        self._lists[place] = (list(messages), runs)
        return sealed(self._serde, _as_multirange(runs)), new

    def said(self, value: Any) -> None:
        """A step says this: a message in it that a list has already may have been changed in place."""
        for message in value if isinstance(value, list) else [value]:
            if any(message is listed for messages, _ in self._lists.values() for listed in messages):
                self._doubtful.add(message.id)

    def _held(self) -> dict[str | None, tuple[int, BaseMessage]]:
        """The messages of all lists by their ids, with their numbers."""
        held: dict[str | None, tuple[int, BaseMessage]] = {}
        for messages, runs in self._lists.values():
            numbers = (number for first, last in runs for number in range(first, last + 1))
            held |= {message.id: (number, message) for number, message in zip(numbers, messages, strict=True)}
        return held

    def stored(self, new: dict[int, int]) -> None:
        """New messages are on disk, by number, and take so many bytes there."""
        messages = {number: self._messages[number] for number in new}
        self._memory.note(self.thread_id, self._began, messages, sum(new.values()))


def is_conversation(value: Any) -> TypeGuard[list[BaseMessage]]:
    """Whether a channel's value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(message, BaseMessage) for message in value)


def sealed(serde: Serializer, runs: str) -> bytes:
    """Runs as they are stored."""
    return f"{runs} {serde.seal(LIST + runs)}".rstrip().encode()


def unsealed(serde: Serializer, blob: bytes) -> str:
    """Runs that are stored so. Raises `Unreadable` if they were changed."""
    runs, _, seal = blob.decode().partition(" ")
    serde.check_seal(LIST + runs, seal)
    return runs


def _extend(runs: Runs, number: int) -> None:
    if runs and runs[-1][1] == number - 1:
        runs[-1][1] = number
    else:
        runs.append([number, number])


def _as_multirange(runs: Runs) -> str:
    return "{" + ",".join(f"[{first},{last}]" for first, last in runs) + "}"


def _fresh_message(message: BaseMessage) -> BaseMessage:
    """A copy that shares nothing that can be changed, by way of what pickle would be given."""
    state = message.__getstate__()
    values = state["__dict__"] = state["__dict__"].copy()
    for name, value in values.items():
        kind = value.__class__
        if kind is dict or kind is list:  # not isinstance: this is done a thousand times a turn
            values[name] = _fresh(value) if value else kind()
    state["__pydantic_extra__"] = _fresh(state["__pydantic_extra__"])
    state["__pydantic_fields_set__"] = state["__pydantic_fields_set__"].copy()
    new = message.__class__.__new__(message.__class__)
    new.__setstate__(state)
    return new


def _fresh(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fresh(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_fresh(part) for part in value]
    return value
