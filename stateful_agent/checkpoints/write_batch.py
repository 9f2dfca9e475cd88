"""What a turn adds to its thread, gathered to be stored as one statement."""

import json
from typing import Any


class WriteBatch:
    """Rows that wait to be stored, by primary key (without the thread), so that each is there once."""

    def __init__(self) -> None:
        self.blobs: dict[Any, dict[str, Any]] = {}
        self.messages: dict[int, dict[str, Any]] = {}
        self.writes: dict[Any, dict[str, Any]] = {}
        self.checkpoints: dict[Any, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self.blobs or self.messages or self.writes or self.checkpoints)

    def add_blob(self, ns: str, channel: str, version: Any, typed: tuple[str, bytes]) -> None:
        """A channel's value, serialised."""
        kind, data = typed
        row = {"ns": ns, "channel": channel, "version": version, "type": kind, "data": data}
        self.blobs[ns, channel, version] = row

    def add_message(self, number: int, typed: tuple[str, bytes]) -> None:
        """A message of the thread, serialised."""
        kind, data = typed
        self.messages[number] = {"number": number, "type": kind, "data": data}

    def add_write(
        self, ns: str, checkpoint_id: str, task: dict[str, Any], channel: str, typed: Any, *, stays: bool
    ) -> None:
        """What a task (`task_id`, `task_path`, `idx`) has said to a channel, serialised.

        Unless it `stays`, it is not stored any more once the next checkpoint is, which holds what was said.
        """
        key = (ns, checkpoint_id, task["task_id"], task["idx"])
        if task["idx"] < 0 or key not in self.writes:
            kind, data = typed
            place = {"ns": ns, "checkpoint_id": checkpoint_id, "channel": channel}
            self.writes[key] = place | task | {"type": kind, "data": data, "stays": stays}

    def add_checkpoint(self, ns: str, parent: str | None, checkpoint: Any, metadata: dict[str, Any]) -> None:
        """A checkpoint, as its row has it: without the values that are blobs."""
        self.checkpoints[ns, checkpoint["id"]] = {
            "ns": ns,
            "checkpoint_id": checkpoint["id"],
            "parent": parent,
            "checkpoint": checkpoint,
            "metadata": metadata,
        }

    def newest(self) -> str | None:
        """The id of the thread's newest checkpoint among them."""
        return max((checkpoint_id for ns, checkpoint_id in self.checkpoints if not ns), default=None)

    def followed_by(self, later: "WriteBatch") -> "WriteBatch":
        """These and the later ones."""
        both = WriteBatch()
        both.blobs = self.blobs | later.blobs
        both.messages = self.messages | later.messages
        both.writes = self.writes | later.writes
        both.checkpoints = self.checkpoints | later.checkpoints
        return both

    def as_parameters(self) -> dict[str, Any]:
        """The parameters of `STORE`. Rows go as JSON, which takes far less time than an array per column; their
        bytes go apart, each known by its number."""
        data: list[bytes] = []
        followed = {(row["ns"], row["parent"]) for row in self.checkpoints.values()}
        writes = [w for w in self.writes.values() if w["stays"] or (w["ns"], w["checkpoint_id"]) not in followed]

        def numbered(row: dict[str, Any]) -> dict[str, Any]:
            data.append(row["data"])
            return row | {"data": len(data)}

        return {
            "blobs": json.dumps([numbered(row) for row in self.blobs.values()]),
            "messages": json.dumps([numbered(row) for row in self.messages.values()]),
            "writes": json.dumps([numbered(row) for row in writes]),
            "checkpoints": json.dumps(list(self.checkpoints.values())),
            "data": data,
        }
