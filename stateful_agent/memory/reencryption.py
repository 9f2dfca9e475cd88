"""Encrypting anew what is remembered across threads, with the key that encrypts now."""

import json
from base64 import b64decode, b64encode
from typing import Any

from psycopg.types.json import Jsonb

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.database.pool import Connection
from stateful_agent.database.statements import statements
from stateful_agent.errors import Unreadable
from stateful_agent.memory.user_store import SEALED

REENCRYPTION = statements("reencryption")


async def encrypt_items(connection: Connection, cipher: Cipher) -> int:
    """Encrypt all items that are not encrypted with the key that encrypts now. Returns how many these were.

    An item that is put meanwhile is left as it is put.

    Raises:
        Unreadable: an item is encrypted with an unknown key, or was changed.
    """
    last: dict[str, Any] = {"prefix": "", "key": ""}
    count = 0
    while rows := await (await connection.execute(REENCRYPTION["list_items"], last)).fetchall():
        for row in rows:
            new = _anew(cipher.for_item(row["prefix"].split("."), row["key"]), row["value"])
            if new is not None:
                values = {"prefix": row["prefix"], "key": row["key"], "value": Jsonb(row["value"]), "new": Jsonb(new)}
                count += (await connection.execute(REENCRYPTION["update_item"], values)).rowcount
        last = {"prefix": rows[-1]["prefix"], "key": rows[-1]["key"]}
    return count


def _anew(cipher: Cipher, value: dict[str, Any]) -> dict[str, Any] | None:
    """An item's value encrypted with the key that encrypts now; `None` if it is."""
    if value.keys() == {SEALED}:
        blob = b64decode(value[SEALED])
        try:
            cipher.only_newest().decrypt(SEALED, blob)
        except Unreadable:
            plain = cipher.decrypt(SEALED, blob)[1]
        else:
            return None
    else:
        cipher.check_plain()
        plain = json.dumps(value).encode()
    kind, sealed = cipher.encrypt("json", plain)
    return {kind: b64encode(sealed).decode()}
