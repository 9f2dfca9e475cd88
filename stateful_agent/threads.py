"""Threads as a user manages them: list, copy, delete, prune."""

from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from stateful_agent.errors import CheckpointNotFound, ThreadNotFound
from stateful_agent.serde import Serde
from stateful_agent.storage import Pool, fetch, unavailable_as_503

LIST: LiteralString = """
    SELECT thread_id, created_at, updated_at, head.checkpoint_id, head.metadata
    FROM agent_threads
    CROSS JOIN LATERAL (
        SELECT checkpoint_id, metadata FROM checkpoints
        WHERE checkpoints.thread_id = agent_threads.thread_id AND checkpoint_ns = ''
        ORDER BY checkpoint_id DESC LIMIT 1
    ) AS head
    WHERE %(before)s::timestamptz IS NULL OR updated_at < %(before)s
    ORDER BY updated_at DESC LIMIT %(limit)s
"""
# Checkpoints keep their ids, so a place in the copy has the name of the place it is a copy of. A response does not:
# its id leads to the thread that gave it.
COPY: LiteralString = """
    WITH checkpoint AS (
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT %(copy)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata - 'response_id'
        FROM checkpoints WHERE thread_id = %(thread_id)s
        RETURNING checkpoint_ns, checkpoint_id
    ), blob AS (
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        SELECT %(copy)s, checkpoint_ns, channel, version, type, blob
        FROM checkpoint_blobs WHERE thread_id = %(thread_id)s
    ), task_write AS (
        INSERT INTO checkpoint_writes
            (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        SELECT %(copy)s, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
        FROM checkpoint_writes WHERE thread_id = %(thread_id)s
    ), thread AS (
        INSERT INTO agent_threads (thread_id)
        SELECT %(copy)s WHERE EXISTS (SELECT FROM checkpoints WHERE thread_id = %(thread_id)s)
    )
    SELECT checkpoint_id FROM checkpoint WHERE checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1
"""
ENCRYPT_BLOBS: tuple[tuple[LiteralString, LiteralString], ...] = (
    (
        "SELECT ctid::text, type, blob FROM checkpoint_blobs WHERE thread_id = %(copy)s AND type <> 'empty'",
        "UPDATE checkpoint_blobs SET type = %s, blob = %s WHERE ctid = %s::tid",
    ),
    (
        "SELECT ctid::text, type, blob FROM checkpoint_writes WHERE thread_id = %(copy)s",
        "UPDATE checkpoint_writes SET type = %s, blob = %s WHERE ctid = %s::tid",
    ),
)
COPIED_CHECKPOINTS: LiteralString = """
    SELECT ctid, checkpoint_ns, checkpoint, metadata FROM checkpoints WHERE thread_id = %(copy)s
"""
ENCRYPT_CHECKPOINT: LiteralString = """
    UPDATE checkpoints SET checkpoint = %(checkpoint)s, metadata = %(metadata)s WHERE ctid = %(ctid)s::tid
"""
ADD_BLOB: LiteralString = """
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    VALUES (%(copy)s, %(ns)s, %(channel)s, %(version)s, %(type)s, %(blob)s)
    ON CONFLICT DO NOTHING
"""
# What a turn is storing at this moment ends before this row can be had, and what it stores later finds it changed.
DELETE_THREAD: LiteralString = "DELETE FROM agent_threads WHERE thread_id = %(thread_id)s"
PRUNE_THREAD: LiteralString = """
    UPDATE agent_threads SET generation = gen_random_uuid() WHERE thread_id = %(thread_id)s
"""
DELETE_ROWS: dict[str, LiteralString] = {
    "checkpoints": "DELETE FROM checkpoints WHERE thread_id = %(thread_id)s",
    "blobs": "DELETE FROM checkpoint_blobs WHERE thread_id = %(thread_id)s",
    "writes": "DELETE FROM checkpoint_writes WHERE thread_id = %(thread_id)s",
}
PRUNABLE: LiteralString = """
    SELECT DISTINCT thread_id FROM checkpoints AS old
    WHERE (checkpoint ->> 'ts')::timestamptz < now() - %(age)s * interval '1 second'
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
}
CUT_FROM_PARENTS: LiteralString = """
    UPDATE checkpoints AS orphan SET parent_checkpoint_id = NULL
    WHERE thread_id = %(thread_id)s AND parent_checkpoint_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM checkpoints AS parent
        WHERE parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = orphan.checkpoint_ns
            AND parent.checkpoint_id = orphan.parent_checkpoint_id
    )
"""


async def list_threads(pool: Pool, serde: Serde, limit: int, before: datetime | None) -> list[dict[str, Any]]:
    """A page of threads, the one with the latest turn first, from those last touched before `before` on."""
    noted = ("next_nodes", "message_count", "last_message", "turn")
    page = []
    for row in await fetch(pool, LIST, {"limit": limit, "before": before}):
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


async def copy_thread(pool: Pool, serde: Serde, thread_id: str, copy: str) -> dict[str, Any]:
    """Copy a thread, all branches of it, to one named `copy`. What is encrypted is encrypted anew, for that thread.

    Raises:
        ThreadNotFound: there is no such thread.
        Unreadable: its key was another, or it was changed. Nothing was copied.
    """
    async with unavailable_as_503(), pool.connection() as connection, connection.transaction():
        head = await (await connection.execute(COPY, {"thread_id": thread_id, "copy": copy})).fetchone()
        if head is None:
            raise ThreadNotFound(param="thread_id")
        if serde.encrypts:
            await _encrypt_anew(connection, serde.of(thread_id), serde.of(copy), copy)
    return {"thread_id": copy, "checkpoint_id": head["checkpoint_id"], "copied_from": thread_id}


async def _encrypt_anew(connection: AsyncConnection[DictRow], old: Serde, new: Serde, copy: str) -> None:
    """Encrypt the rows of a copy, which hold what the thread holds that it is a copy of."""
    values: dict[str, Any] = {"copy": copy}
    updates = connection.cursor()
    for read, write in ENCRYPT_BLOBS:
        async with connection.cursor(name="copied") as copied:  # a long thread's may be too many for the memory
            await copied.execute(read, values, binary=True)
            while rows := await copied.fetchmany(100):
                pieces = [(row["ctid"], *new.encrypt(*old.decrypt(row["type"], row["blob"]))) for row in rows]
                await updates.executemany(write, [(kind, blob, ctid) for ctid, kind, blob in pieces])
    checkpoints = await (await connection.execute(COPIED_CHECKPOINTS, values)).fetchall()
    for row in checkpoints:
        checkpoint = row["checkpoint"]
        inline = {channel: value for channel, value in checkpoint["channel_values"].items() if value is not None}
        if inline:  # from before there was a key
            old.check_plain()
        for channel, value in inline.items():
            kind, blob = new.dumps_typed(value)
            place = {"ns": row["checkpoint_ns"], "channel": channel, "version": checkpoint["channel_versions"][channel]}
            await updates.execute(ADD_BLOB, values | place | {"type": kind, "blob": blob})
            del checkpoint["channel_values"][channel]
        row["checkpoint"], row["metadata"] = Jsonb(checkpoint), Jsonb(new.hide(old.show(row["metadata"])))
    await updates.executemany(ENCRYPT_CHECKPOINT, checkpoints)


async def delete_thread(pool: Pool, thread_id: str) -> dict[str, int]:
    """Delete every row of a thread. A turn that runs on it ends with `ThreadDeleted`.

    Raises:
        ThreadNotFound: there is no such thread.
    """
    values = {"thread_id": thread_id}
    async with unavailable_as_503(), pool.connection() as connection, connection.transaction():
        await connection.execute(DELETE_THREAD, values)
        deleted = {name: (await connection.execute(query, values)).rowcount for name, query in DELETE_ROWS.items()}
    if not deleted["checkpoints"]:
        raise ThreadNotFound(param="thread_id")
    return deleted


async def prune(pool: Pool, age: float) -> dict[str, int]:
    """Delete the checkpoints older than `age` seconds, save the head of each thread."""
    found = await fetch(pool, PRUNABLE, {"age": age})
    deleted = {"threads": len(found), "checkpoints": 0, "writes": 0, "blobs": 0}
    for row in found:
        values = {"thread_id": row["thread_id"], "age": age}
        async with unavailable_as_503(), pool.connection() as connection, connection.transaction():
            await connection.execute(PRUNE_THREAD, values)
            for name, query in PRUNE_ROWS.items():
                deleted[name] += (await connection.execute(query, values)).rowcount
            await connection.execute(CUT_FROM_PARENTS, values)
    return deleted


RESPONSE: LiteralString = """
    SELECT thread_id, checkpoint_id FROM checkpoints
    WHERE metadata ? 'response_id' AND metadata ->> 'response_id' = %(response_id)s AND checkpoint_ns = ''
    ORDER BY checkpoint_id DESC LIMIT 1
"""


async def place_of_response(pool: Pool, response_id: str) -> tuple[str, str]:
    """The thread of a response, and the last checkpoint of its turn.

    Raises:
        CheckpointNotFound: no turn gave such a response, or its checkpoints are gone.
    """
    found = await fetch(pool, RESPONSE, {"response_id": response_id})
    if not found:
        raise CheckpointNotFound(f"There is no stored response {response_id!r}.", param="previous_response_id")
    return found[0]["thread_id"], found[0]["checkpoint_id"]
