"""Threads as a user manages them: list, delete, prune."""

from datetime import datetime
from functools import partial
from typing import Any, LiteralString

from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import Connection, Pool, fetch, with_connection
from stateful_agent.errors import CheckpointNotFound, ThreadNotFound
from stateful_agent.identity import caller

LIST: LiteralString = """
    SELECT thread_id, created_at, updated_at, head.checkpoint_id, head.metadata
    FROM agent_threads
    CROSS JOIN LATERAL (
        SELECT checkpoint_id, metadata FROM checkpoints
        WHERE checkpoints.thread_id = agent_threads.thread_id AND checkpoint_ns = ''
        ORDER BY checkpoint_id DESC LIMIT 1
    ) AS head
    WHERE (%(caller)s::text IS NULL OR owner = %(caller)s)
        AND (%(before)s::timestamptz IS NULL OR updated_at < %(before)s)
    ORDER BY updated_at DESC LIMIT %(limit)s
"""
# What a turn is storing at this moment ends before this row can be had, and what it stores later finds it gone.
DELETE_THREAD: LiteralString = "DELETE FROM agent_threads WHERE thread_id = %(thread_id)s"
PRUNE_THREAD: LiteralString = """
    UPDATE agent_threads SET version = version + 1
    WHERE thread_id = %(thread_id)s AND held_until < clock_timestamp()
    RETURNING thread_id
"""
DELETE_ROWS: dict[str, LiteralString] = {
    "checkpoints": "DELETE FROM checkpoints WHERE thread_id = %(thread_id)s",
    "blobs": "DELETE FROM checkpoint_blobs WHERE thread_id = %(thread_id)s",
    "writes": "DELETE FROM checkpoint_writes WHERE thread_id = %(thread_id)s",
    "messages": "DELETE FROM agent_messages WHERE thread_id = %(thread_id)s",
}
PRUNABLE: LiteralString = """
    SELECT DISTINCT thread_id FROM agent_threads JOIN checkpoints AS old USING (thread_id)
    WHERE (%(caller)s::text IS NULL OR owner = %(caller)s)
        AND (checkpoint ->> 'ts')::timestamptz < now() - %(age)s * interval '1 second'
        AND EXISTS (
            SELECT FROM checkpoints AS newer
            WHERE newer.thread_id = old.thread_id AND newer.checkpoint_ns = old.checkpoint_ns
                AND newer.checkpoint_id > old.checkpoint_id
        )
"""
# In each namespace the newest stays, however old it is. What follows goes by what the first left.
PRUNE_ROWS: dict[str, LiteralString] = {
    "checkpoints": """
        DELETE FROM checkpoints AS old
        WHERE thread_id = %(thread_id)s
            AND (checkpoint ->> 'ts')::timestamptz < now() - %(age)s * interval '1 second'
            AND checkpoint_id < (
                SELECT max(checkpoint_id) FROM checkpoints AS newest
                WHERE newest.thread_id = %(thread_id)s AND newest.checkpoint_ns = old.checkpoint_ns
            )
    """,
    "writes": """
        DELETE FROM checkpoint_writes AS task_write
        WHERE thread_id = %(thread_id)s AND NOT EXISTS (
            SELECT FROM checkpoints
            WHERE thread_id = %(thread_id)s AND checkpoint_ns = task_write.checkpoint_ns
                AND checkpoint_id = task_write.checkpoint_id
        )
    """,
    "blobs": """
        DELETE FROM checkpoint_blobs
        WHERE thread_id = %(thread_id)s AND (checkpoint_ns, channel, version) NOT IN (
            SELECT checkpoint_ns, key, value
            FROM checkpoints, jsonb_each_text(checkpoint -> 'channel_versions')
            WHERE thread_id = %(thread_id)s
        )
    """,
    "messages": """
        DELETE FROM agent_messages AS message
        WHERE thread_id = %(thread_id)s AND NOT number <@ (
            SELECT coalesce(range_agg(run), '{}')
            FROM checkpoint_blobs, unnest(split_part(convert_from(blob, 'UTF8'), ' ', 1)::int4multirange) AS run
            WHERE thread_id = %(thread_id)s AND type = 'messages'
        )
    """,
}
CUT_FROM_PARENTS: LiteralString = """
    UPDATE checkpoints AS orphan SET parent_checkpoint_id = NULL
    WHERE thread_id = %(thread_id)s AND parent_checkpoint_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM checkpoints AS parent
        WHERE parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = orphan.checkpoint_ns
            AND parent.checkpoint_id = orphan.parent_checkpoint_id
    )
"""


OWNED: LiteralString = "SELECT thread_id FROM agent_threads WHERE thread_id = %(thread_id)s AND owner = %(caller)s"


async def check_owned(pool: Pool, thread_id: str) -> None:
    """Make sure that a thread is the caller's, if users are told apart.

    Raises:
        ThreadNotFound: there is no such thread of the caller's.
    """
    if caller() is not None and not await fetch(pool, OWNED, {"thread_id": thread_id, "caller": caller()}):
        raise ThreadNotFound(param="thread_id")


async def list_threads(pool: Pool, serde: Serializer, limit: int, before: datetime | None) -> list[dict[str, Any]]:
    """A page of threads, the one with the latest turn first, from those last touched before `before` on."""
    noted = ("next_nodes", "message_count", "last_message", "turn")
    page = []
    for row in await fetch(pool, LIST, {"caller": caller(), "limit": limit, "before": before}):
        labels = serde.of(row["thread_id"]).show(row["metadata"])
        page.append(
            {
                "thread_id": row["thread_id"],
                "checkpoint_id": row["checkpoint_id"],
                "created_at": row["created_at"].isoformat(),
                "updated_at": row["updated_at"].isoformat(),
                **{name: labels.get(name) for name in noted},
            }
        )
    return page


async def delete_thread(pool: Pool, thread_id: str) -> dict[str, int]:
    """Delete every row of a thread. A turn that runs on it ends with `ThreadDeleted`.

    Raises:
        ThreadNotFound: there is no such thread.
    """
    values = {"thread_id": thread_id}

    async def delete(connection: Connection) -> dict[str, int]:
        async with connection.transaction():
            await connection.execute(DELETE_THREAD, values)
            return {name: (await connection.execute(query, values)).rowcount for name, query in DELETE_ROWS.items()}

    deleted = await with_connection(pool, delete)
    if not deleted["checkpoints"]:
        raise ThreadNotFound(param="thread_id")
    return deleted


async def prune(pool: Pool, age: float) -> dict[str, int]:
    """Delete the checkpoints older than `age` seconds, save the head of each thread, where no turn runs."""
    found = await fetch(pool, PRUNABLE, {"age": age, "caller": caller()})
    deleted = {"threads": 0, "checkpoints": 0, "writes": 0, "blobs": 0, "messages": 0}
    for row in found:
        values = {"thread_id": row["thread_id"], "age": age}
        for name, count in (await with_connection(pool, partial(_prune_thread, values))).items():
            deleted[name] += count
    return deleted


async def _prune_thread(values: dict[str, Any], connection: Connection) -> dict[str, int]:
    async with connection.transaction():
        if not (await connection.execute(PRUNE_THREAD, values)).rowcount:
            return {}
        deleted = {name: (await connection.execute(query, values)).rowcount for name, query in PRUNE_ROWS.items()}
        await connection.execute(CUT_FROM_PARENTS, values)
        return deleted | {"threads": 1}


RESPONSE: LiteralString = """
    SELECT thread_id, checkpoint_id FROM checkpoints
    WHERE metadata ? 'response_id' AND metadata ->> 'response_id' = %(response_id)s AND checkpoint_ns = ''
        AND (%(caller)s::text IS NULL OR EXISTS (
            SELECT FROM agent_threads WHERE thread_id = checkpoints.thread_id AND owner = %(caller)s
        ))
    ORDER BY checkpoint_id DESC LIMIT 1
"""


async def place_of_response(pool: Pool, response_id: str) -> tuple[str, str]:
    """The thread of a response, and the last checkpoint of its turn.

    Raises:
        CheckpointNotFound: no turn gave such a response, or its checkpoints are gone.
    """
    found = await fetch(pool, RESPONSE, {"response_id": response_id, "caller": caller()})
    if not found:
        raise CheckpointNotFound(f"There is no stored response {response_id!r}.", param="previous_response_id")
    return found[0]["thread_id"], found[0]["checkpoint_id"]
