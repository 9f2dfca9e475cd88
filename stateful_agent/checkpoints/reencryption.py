"""Encrypting anew what a thread holds: for another thread, as its copy, or with the key that encrypts now."""

from collections.abc import AsyncIterator
from typing import Any

from psycopg.types.json import Jsonb

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.message_log import MESSAGE_LIST, sealed, unsealed
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import Connection, Pool, fetch
from stateful_agent.database.statements import statements
from stateful_agent.errors import Unreadable

REENCRYPTION, THREADS = statements("reencryption"), statements("threads")

VALUES = ("blobs", "writes", "messages", "events")
"""The tables whose rows are values with their types."""

Row = dict[str, Any]


async def encrypt_copy(connection: Connection, old: Cipher, new: Cipher, thread_id: str) -> None:
    """Encrypt the rows of a thread, which hold what the thread holds that it is a copy of, within a transaction.

    Raises:
        Unreadable: they were encrypted with an unknown key, or changed.
    """
    for table in VALUES:
        await _encrypt_values(connection, old, new, thread_id, table, is_done=None)
    await _encrypt_metadata(connection, old, new, thread_id, is_done=None)
    await _encrypt_checkpoints(connection, old, new, thread_id, is_done=None)


async def encrypt_thread(connection: Connection, cipher: Cipher, thread_id: str) -> int:
    """Encrypt what a thread holds with the key that encrypts now, if it is not so yet. Returns how many rows were not.

    Its turns go on meanwhile: what they add is encrypted so already, and what they change is left as they leave it.

    Raises:
        Unreadable: a row is encrypted with an unknown key, or was changed.
    """
    cipher = cipher.for_thread(thread_id)
    newest = cipher.only_newest()
    count = 0
    for table in VALUES:
        async with connection.transaction():
            count += await _encrypt_values(connection, cipher, cipher, thread_id, table, is_done=newest)
    async with connection.transaction():
        count += await _encrypt_checkpoints(connection, cipher, cipher, thread_id, is_done=newest)
    async with connection.transaction():
        count += await _encrypt_metadata(connection, cipher, cipher, thread_id, is_done=newest)
    return count


async def list_threads(pool: Pool) -> AsyncIterator[list[str]]:
    """The ids of all threads, in batches."""
    last = ""
    while rows := await fetch(pool, REENCRYPTION["list_thread_ids"], {"last_id": last}):
        yield [row["thread_id"] for row in rows]
        last = rows[-1]["thread_id"]


async def _encrypt_values(
    connection: Connection, old: Cipher, new: Cipher, thread_id: str, table: str, is_done: Cipher | None
) -> int:
    updates = connection.cursor()
    count = 0
    async with connection.cursor(name="stored") as stored:  # a long thread's may be too many for the memory
        await stored.execute(REENCRYPTION[f"read_{table}"], {"thread_id": thread_id}, binary=True)
        while rows := await stored.fetchmany(100):
            changed = [_anew(old, new, row) for row in rows if not _is_readable(is_done, row)]
            await updates.executemany(REENCRYPTION[f"update_{table}"], changed)
            count += len(changed)
    return count


def _anew(old: Cipher, new: Cipher, row: Row) -> Row:
    if row["type"] == MESSAGE_LIST:
        return row | {"blob": sealed(new, unsealed(old, row["blob"]))}
    plain = old.for_message(row["number"]).decrypt(row["type"], row["blob"])
    kind, blob = new.for_message(row["number"]).encrypt(*plain)
    return row | {"type": kind, "blob": blob}


def _is_readable(cipher: Cipher | None, row: Row) -> bool:
    """Whether a row is encrypted, and this cipher has its key."""
    if cipher is None:
        return False
    try:
        if row["type"] == MESSAGE_LIST:
            unsealed(cipher, row["blob"])
            return b" " in row["blob"]
        cipher.for_message(row["number"]).decrypt(row["type"], row["blob"])
        return "+" in row["type"]
    except Unreadable:
        return False


async def _encrypt_metadata(
    connection: Connection, old: Cipher, new: Cipher, thread_id: str, is_done: Cipher | None
) -> int:
    row = await (await connection.execute(REENCRYPTION["read_metadata"], {"thread_id": thread_id})).fetchone()
    if row is None or _is_readable(is_done, row):
        return 0
    changed = _anew(old, new, row)
    values = {"thread_id": thread_id, "type": changed["type"], "metadata": changed["blob"]}
    await connection.execute(THREADS["update_metadata"], values)
    return 1


async def _encrypt_checkpoints(
    connection: Connection, old: Cipher, new: Cipher, thread_id: str, is_done: Cipher | None
) -> int:
    """Encrypt the previews in the metadata of checkpoints; values that a checkpoint holds inline get rows of their own.

    Those are from before there was a key.
    """
    serializer = Serializer(new)
    updates = connection.cursor()
    changed = []
    rows = await (await connection.execute(REENCRYPTION["read_checkpoints"], {"thread_id": thread_id})).fetchall()
    for row in rows:
        checkpoint = row["checkpoint"]
        inline = {channel: value for channel, value in checkpoint["channel_values"].items() if value is not None}
        if not inline and _has_readable_preview(is_done, row["metadata"]):
            continue
        if inline:
            old.check_plain()
        for channel, value in inline.items():
            kind, blob = serializer.dumps_typed(value)
            key = {"ns": row["checkpoint_ns"], "channel": channel, "version": checkpoint["channel_versions"][channel]}
            values = {"thread_id": thread_id, "type": kind, "blob": blob}
            await updates.execute(REENCRYPTION["add_blob"], values | key)
            del checkpoint["channel_values"][channel]
        row["checkpoint"] = Jsonb(checkpoint)
        row["metadata"] = Jsonb(new.encrypt_metadata(old.decrypt_metadata(row["metadata"])))
        changed.append(row)
    await updates.executemany(REENCRYPTION["update_checkpoint"], changed)
    return len(changed)


def _has_readable_preview(cipher: Cipher | None, metadata: dict[str, Any]) -> bool:
    """Whether the preview is encrypted, and this cipher has its key; also where there is no preview."""
    if cipher is None:
        return False
    try:
        cipher.decrypt_metadata(metadata)
    except Unreadable:
        return False
    return not isinstance(metadata.get("last_message"), str)
