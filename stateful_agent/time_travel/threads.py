"""Threads as a whole: find, list, delete, prune."""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.database.pool import Connection, Pool, fetch, with_connection
from stateful_agent.database.statements import statements
from stateful_agent.errors import CheckpointNotFound, ThreadNotFound
from stateful_agent.identity import ALL_USERS, User, owner_parameters, stored_ids, told_id
from stateful_agent.responses.thread_ref import ThreadRef

THREADS = statements("threads")

PRUNE_STEP = 1000
"""Checkpoints of a thread that are deleted at once, while turns on it wait."""

METADATA = "metadata"
"""The type of what a caller notes of a thread."""

TABLES = ("checkpoints", "blobs", "writes", "messages")
"""What a thread's rows are counted as when they are deleted, in the order in which they are."""


async def locate(pool: Pool, thread: ThreadRef, user: User) -> tuple[str, str | None]:
    """What the user calls the thread that a request goes on from and, if one is named, the id of the checkpoint.

    Raises:
        CheckpointNotFound: no turn of the user's gave the response that it names, or its checkpoints are gone.
    """
    if thread.previous_response_id is None:
        return str(thread.thread_id), thread.checkpoint_id
    if found := await find_response(pool, thread.previous_response_id, user):
        return told_id(user, found["thread_id"]), found["checkpoint_id"]
    raise CheckpointNotFound(
        f"There is no stored response {thread.previous_response_id!r}.", param="previous_response_id"
    )


async def find_response(pool: Pool, response_id: str, user: User) -> DictRow | None:
    """The `thread_id` of a user's response, the `first_checkpoint_id` of its turn, and the last: `checkpoint_id`."""
    found = await fetch(pool, THREADS["find_response"], {"response_id": response_id} | owner_parameters(user))
    return found[0] if found else None


async def find_thread(pool: Pool, thread_id: str, user: User) -> str:
    """The id under which the thread is stored that a user calls so.

    Raises:
        ThreadNotFound: there is no such thread of the user's.
    """
    if user is ALL_USERS:
        return thread_id
    values = {"thread_ids": stored_ids(user, thread_id), "owner": user}
    if not (found := await fetch(pool, THREADS["find_owned"], values)):
        raise ThreadNotFound(param="thread_id")
    return str(found[0]["thread_id"])


async def list_threads(
    pool: Pool, cipher: Cipher, user: User, limit: int, before: datetime | None
) -> list[dict[str, Any]]:
    """A page of a user's threads, the one with the latest turn first, from those last touched before `before` on."""
    rows = await fetch(pool, THREADS["list_threads"], {"limit": limit, "before": before} | owner_parameters(user))
    return [_entry(row, cipher, user) for row in rows]


async def read_thread(pool: Pool, cipher: Cipher, user: User, thread_id: str) -> dict[str, Any]:
    """One of a user's threads, by the id under which it is stored.

    Raises:
        ThreadNotFound: there is no such thread of the user's.
    """
    rows = await fetch(pool, THREADS["read_thread"], {"thread_id": thread_id} | owner_parameters(user))
    if not rows:
        raise ThreadNotFound(param="thread_id")
    return _entry(rows[0], cipher, user)


async def update_metadata(pool: Pool, cipher: Cipher, thread_id: str, metadata: dict[str, Any]) -> None:
    """Store what a caller notes of a thread, in the place of what was noted before."""
    kind, blob = cipher.for_thread(thread_id).encrypt(METADATA, json.dumps(metadata).encode())
    await fetch(pool, THREADS["update_metadata"], {"thread_id": thread_id, "type": kind, "metadata": blob})


def _entry(row: DictRow, cipher: Cipher, user: User) -> dict[str, Any]:
    cipher = cipher.for_thread(row["thread_id"])
    head = cipher.decrypt_metadata(row["metadata"])
    noted = row["metadata_type"] and cipher.decrypt(row["metadata_type"], row["thread_metadata"])[1]
    metadata = json.loads(noted or "{}")
    return {
        "thread_id": told_id(user, row["thread_id"]),
        "title": _title(metadata, [cipher.decrypt_metadata(first) for first in row["first_metadata"]]),
        "checkpoint_id": row["checkpoint_id"],
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
        "metadata": metadata,
        "branch_count": row["branch_count"],
        "running_response_id": row["running_response_id"],
        **{name: head.get(name) for name in ("next_nodes", "message_count", "last_message", "turn")},
    }


def _title(metadata: dict[str, Any], first: Sequence[dict[str, Any]]) -> str | None:
    """What a caller has named the thread; else its first message, as far as a checkpoint's metadata holds it."""
    if isinstance(metadata.get("title"), str):
        return metadata["title"]
    return next((each["last_message"] for each in first if each.get("last_message")), None)


async def delete_thread(pool: Pool, thread_id: str) -> dict[str, int]:
    """Delete every row of a thread. A turn that runs on it ends with `ThreadDeleted`.

    Returns how many rows were deleted, by what they hold.

    Raises:
        ThreadNotFound: there is no such thread.
    """
    values = {"thread_id": thread_id}

    async def delete(connection: Connection) -> dict[str, int]:
        async with connection.transaction():
            await connection.execute(THREADS["delete_thread"], values)
            return {table: (await connection.execute(THREADS[f"delete_{table}"], values)).rowcount for table in TABLES}

    deleted = await with_connection(pool, delete)
    if not deleted["checkpoints"]:
        raise ThreadNotFound(param="thread_id")
    return deleted


async def delete_threads(pool: Pool, user: User) -> int:
    """Delete every row of all threads of a user. Returns how many threads there were."""
    count = 0
    while found := await fetch(pool, THREADS["list_owned"], owner_parameters(user)):
        for row in found:
            with suppress(ThreadNotFound):  # another has deleted it
                await delete_thread(pool, row["thread_id"])
                count += 1
    return count


async def prune(pool: Pool, user: User, age: float) -> dict[str, int]:
    """Delete a user's checkpoints older than `age` seconds, save the head of each thread, where no turn runs.

    It takes small steps, beside the turns that run on other threads, and can be done again if it is cut off.
    """
    deleted, after = {"threads": 0} | dict.fromkeys(TABLES, 0), ""
    while page := await fetch(pool, THREADS["list_prunable"], {"age": age, "after_id": after} | owner_parameters(user)):
        for row in page:
            if row["is_prunable"]:
                for name, count in (await _prune_thread(pool, row["thread_id"], age)).items():
                    deleted[name] += count
        after = page[-1]["thread_id"]
    return deleted


async def _prune_thread(pool: Pool, thread_id: str, age: float) -> dict[str, int]:
    values = {"thread_id": thread_id, "age": age, "step": PRUNE_STEP}
    pruned = {"threads": 1, "checkpoints": 0}

    async def step(connection: Connection) -> dict[str, int] | None:
        async with connection.transaction():
            if not (await connection.execute(THREADS["begin_prune"], values)).rowcount:
                return None
            counts = {"checkpoints": (await connection.execute(THREADS["prune_checkpoints"], values)).rowcount}
            await connection.execute(THREADS["cut_orphans"], values)
            await connection.execute(THREADS["count_branches"], values)
            if counts["checkpoints"] < PRUNE_STEP:  # the last step: then the rest goes by what is left
                for table in ("writes", "blobs", "messages"):
                    counts[table] = (await connection.execute(THREADS[f"prune_{table}"], values)).rowcount
            return counts

    while counts := await with_connection(pool, step):
        pruned["checkpoints"] += counts.pop("checkpoints")
        if counts:
            return pruned | counts
    return pruned if pruned["checkpoints"] else {}
