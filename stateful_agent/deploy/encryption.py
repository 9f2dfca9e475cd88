"""Encrypting anew, with another key, what an agent has stored, while it goes on."""

import asyncio
from collections.abc import Callable

from stateful_agent.deploy.failure import Failure
from stateful_agent.settings import Settings


def encrypt_anew(tell: Callable[[str], None]) -> str:
    """Encrypt all that is stored with `LANGGRAPH_AES_KEY`. What is encrypted so already stays as it is.

    What other keys have encrypted is read with `DECRYPTION_KEYS`. Turns go on meanwhile. Cut off, it goes on with the
    next run. Progress is told; returns what was done, in words.

    Raises:
        Failure: there is no key, something is encrypted with an unknown one, or the database cannot be reached.
    """
    import psycopg  # with the rest a second, which `--help` should not take

    from stateful_agent.errors import AgentError

    settings = Settings()
    if settings.langgraph_aes_key is None:
        raise Failure("Set LANGGRAPH_AES_KEY to the key that is to encrypt, and DECRYPTION_KEYS to those before.")
    try:
        return asyncio.run(_encrypt_anew(settings, tell))
    except (AgentError, psycopg.Error) as error:
        raise Failure(f"Not all is encrypted anew: {error}") from error


async def _encrypt_anew(settings: Settings, tell: Callable[[str], None]) -> str:
    from stateful_agent.checkpoints.cipher import Cipher
    from stateful_agent.checkpoints.reencryption import encrypt_thread, list_threads
    from stateful_agent.checkpoints.tables import database_for
    from stateful_agent.memory.reencryption import encrypt_items

    cipher = Cipher(settings)
    database = database_for(settings)
    try:
        pool = await database.pool()
        threads = rows = 0
        async for batch in list_threads(pool):
            for thread_id in batch:
                async with pool.connections.connection() as connection:  # with no limit of time
                    rows += await encrypt_thread(connection, cipher, thread_id)
            threads += len(batch)
            tell(f"{threads} threads, of which {rows} rows were encrypted anew ...")
        async with pool.connections.connection() as connection:  # with no limit of time
            items = await encrypt_items(connection, cipher)
        return (
            f"Of {threads} threads, {rows} rows were encrypted anew, and {items} of what is remembered. "
            "All is under LANGGRAPH_AES_KEY now."
        )
    finally:
        await database.close()
