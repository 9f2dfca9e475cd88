"""The URL of a Postgres: its parts, and the schema that its connections arrive in. Pure."""

import re
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stateful_agent.errors import Misconfigured


def in_schema(url: str, schema: str | None) -> str:
    """The URL of connections that find and make their tables in a schema; `None`: where the role's search_path says.

    Raises:
        Misconfigured: it is no URL of a Postgres.
    """
    parts = read_url(url)
    if schema is None:
        return url
    path = re.sub(r"([\s\\])", r"\\\1", sql.Identifier(schema).as_string())
    return make_conninfo(url, options=f"{parts.get('options', '')} -c search_path={path}")


def read_url(url: str) -> dict[str, Any]:
    """The parts of a Postgres URL, or of the form `host=... dbname=...`.

    Raises:
        Misconfigured: it is neither.
    """
    try:
        parts = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:  # whose text may hold the password
        parts = {}
    # A password with an @ or a / in it runs over into these. A host may begin with an @: that is a kind of socket.
    if not parts or any("@" in str(parts.get(name, ""))[1:] for name in ("host", "port", "dbname")):
        raise Misconfigured(
            "DATABASE_URL is not a Postgres URL such as postgresql://role@host/database?sslmode=require; special "
            "characters in it must be percent-encoded."
        )
    return parts
