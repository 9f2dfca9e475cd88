"""Copies of threads. What is encrypted for one thread cannot be read in another, so it is encrypted anew."""

from typing import Any

from psycopg.types.json import Jsonb

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.message_log import MESSAGE_LIST, sealed, unsealed
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import Connection, Pool, with_connection
from stateful_agent.database.statements import statements
from stateful_agent.errors import ThreadNotFound

COPIES, THREADS = statements("copies"), statements("threads")


async def copy_thread(pool: Pool, cipher: Cipher, thread_id: str, copy: str) -> dict[str, Any]:
    """Copy a thread, all branches of it, to one named `copy`. What is encrypted is encrypted anew, for that thread.

    Raises:
        ThreadNotFound: there is no such thread.
        Unreadable: its key was another, or it was changed. Nothing was copied.
    """

    async def copy_rows(connection: Connection) -> str:
        async with connection.transaction():
            values = {"thread_id": thread_id, "copy": copy}
            head = await (await connection.execute(COPIES["copy_thread"], values)).fetchone()
            if head is None:
                raise ThreadNotFound(param="thread_id")
            if cipher.encrypts:
                await _encrypt_anew(connection, cipher.for_thread(thread_id), cipher.for_thread(copy), copy)
            return str(head["checkpoint_id"])

    return {"thread_id": copy, "checkpoint_id": await with_connection(pool, copy_rows), "copied_from": thread_id}


async def _encrypt_anew(connection: Connection, old: Cipher, new: Cipher, copy: str) -> None:
    """Encrypt the rows of a copy, which hold what the thread holds that it is a copy of."""
    values: dict[str, Any] = {"copy": copy}
    updates = connection.cursor()
    for table in ("blobs", "writes", "messages"):
        async with connection.cursor(name="copied") as copied:  # a long thread's may be too many for the memory
            await copied.execute(COPIES[f"read_{table}"], values, binary=True)
            while rows := await copied.fetchmany(100):
                encrypted = []
                for row in rows:
                    if row["type"] == MESSAGE_LIST:
                        kind, blob = MESSAGE_LIST, sealed(new, unsealed(old, row["blob"]))
                    else:
                        plain = old.for_message(row["number"]).decrypt(row["type"], row["blob"])
                        kind, blob = new.for_message(row["number"]).encrypt(*plain)
                    encrypted.append({"type": kind, "blob": blob, "ctid": row["ctid"]})
                await updates.executemany(COPIES[f"update_{table}"], encrypted)
    for row in await (await connection.execute(COPIES["read_metadata"], values)).fetchall():
        kind, blob = new.encrypt(*old.decrypt(row["metadata_type"], row["metadata"]))
        await updates.execute(THREADS["update_metadata"], {"thread_id": copy, "type": kind, "metadata": blob})
    serializer = Serializer(new)
    checkpoints = await (await connection.execute(COPIES["read_checkpoints"], values)).fetchall()
    for row in checkpoints:
        checkpoint = row["checkpoint"]
        inline = {channel: value for channel, value in checkpoint["channel_values"].items() if value is not None}
        if inline:  # from before there was a key
            old.check_plain()
        for channel, value in inline.items():
            kind, blob = serializer.dumps_typed(value)
            key = {"ns": row["checkpoint_ns"], "channel": channel, "version": checkpoint["channel_versions"][channel]}
            await updates.execute(COPIES["add_blob"], values | key | {"type": kind, "blob": blob})
            del checkpoint["channel_values"][channel]
        row["checkpoint"] = Jsonb(checkpoint)
        row["metadata"] = Jsonb(new.encrypt_metadata(old.decrypt_metadata(row["metadata"])))
    await updates.executemany(COPIES["update_checkpoint"], checkpoints)
