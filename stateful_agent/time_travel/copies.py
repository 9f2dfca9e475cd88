"""Copies of threads. What is encrypted for one thread does not read in another, so it is encrypted anew."""

from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from stateful_agent.checkpoints.message_log import LIST, sealed, unsealed
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import Connection, Pool, with_connection
from stateful_agent.errors import ThreadNotFound

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
    ), message AS (
        INSERT INTO agent_messages (thread_id, number, type, blob)
        SELECT %(copy)s, number, type, blob FROM agent_messages WHERE thread_id = %(thread_id)s
    ), thread AS (
        INSERT INTO agent_threads (thread_id, owner, messages)
        SELECT %(copy)s, max(owner), coalesce(max(messages), 0) FROM agent_threads WHERE thread_id = %(thread_id)s
        HAVING EXISTS (SELECT FROM checkpoints WHERE thread_id = %(thread_id)s)
    )
    SELECT checkpoint_id FROM checkpoint WHERE checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1
"""
ENCRYPT_BLOBS: tuple[tuple[LiteralString, LiteralString], ...] = (
    (
        "SELECT ctid::text, NULL AS number, type, blob FROM checkpoint_blobs"
        " WHERE thread_id = %(copy)s AND type <> 'empty'",
        "UPDATE checkpoint_blobs SET type = %s, blob = %s WHERE ctid = %s::tid",
    ),
    (
        "SELECT ctid::text, NULL AS number, type, blob FROM checkpoint_writes WHERE thread_id = %(copy)s",
        "UPDATE checkpoint_writes SET type = %s, blob = %s WHERE ctid = %s::tid",
    ),
    (
        "SELECT ctid::text, number, type, blob FROM agent_messages WHERE thread_id = %(copy)s",
        "UPDATE agent_messages SET type = %s, blob = %s WHERE ctid = %s::tid",
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


async def copy_thread(pool: Pool, serde: Serializer, thread_id: str, copy: str) -> dict[str, Any]:
    """Copy a thread, all branches of it, to one named `copy`. What is encrypted is encrypted anew, for that thread.

    Raises:
        ThreadNotFound: there is no such thread.
        Unreadable: its key was another, or it was changed. Nothing was copied.
    """

    async def copy_rows(connection: Connection) -> str:
        async with connection.transaction():
            head = await (await connection.execute(COPY, {"thread_id": thread_id, "copy": copy})).fetchone()
            if head is None:
                raise ThreadNotFound(param="thread_id")
            if serde.encrypts:
                await _encrypt_anew(connection, serde.of(thread_id), serde.of(copy), copy)
            return str(head["checkpoint_id"])

    return {"thread_id": copy, "checkpoint_id": await with_connection(pool, copy_rows), "copied_from": thread_id}


async def _encrypt_anew(connection: Connection, old: Serializer, new: Serializer, copy: str) -> None:
    """Encrypt the rows of a copy, which hold what the thread holds that it is a copy of."""
    values: dict[str, Any] = {"copy": copy}
    updates = connection.cursor()
    for read, write in ENCRYPT_BLOBS:
        async with connection.cursor(name="copied") as copied:  # a long thread's may be too many for the memory
            await copied.execute(read, values, binary=True)
            while rows := await copied.fetchmany(100):
                pieces = []
                for row in rows:
                    if row["type"] == LIST:
                        pieces.append((LIST, sealed(new, unsealed(old, row["blob"])), row["ctid"]))
                        continue
                    plain = old.of_message(row["number"]).decrypt(row["type"], row["blob"])
                    pieces.append((*new.of_message(row["number"]).encrypt(*plain), row["ctid"]))
                await updates.executemany(write, pieces)
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
