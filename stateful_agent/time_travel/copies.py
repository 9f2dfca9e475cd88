"""Copies of threads. What is encrypted for one thread cannot be read in another, so it is encrypted anew."""

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.reencryption import encrypt_copy
from stateful_agent.database.pool import Connection, Pool, with_connection
from stateful_agent.database.statements import statements
from stateful_agent.errors import ThreadNotFound

COPIES = statements("copies")


async def copy_thread(pool: Pool, cipher: Cipher, thread_id: str, copy: str) -> str:
    """Copy a thread, all branches of it, to one stored as `copy`. What is encrypted is encrypted anew, for that thread.

    Returns the id of the head.

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
                await encrypt_copy(connection, cipher.for_thread(thread_id), cipher.for_thread(copy), copy)
            return str(head["checkpoint_id"])

    return await with_connection(pool, copy_rows)
