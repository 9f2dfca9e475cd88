"""Setting up the agent's database ahead of its first start, as the owner of the tables."""

import asyncio

from stateful_agent.deploy.configuration import keeps_state
from stateful_agent.deploy.failure import Failure
from stateful_agent.settings import Settings


def set_up_database(role: str | None = None, *, only_sql: bool = False, settings: Settings | None = None) -> str:
    """Create the agent's tables or bring them up to date. Returns what was done, and what is left to do, in words.

    `role` is a role that may read and write the tables' rows from then on: all that running the agent takes. With
    `only_sql` nothing is done: what lets that role do so is returned as SQL. The database is that of
    the environment's settings, or of those that are given.

    Raises:
        Failure: no database is named, the settings do not lead to it, or it does not let this role do it. Nothing was
            changed then.
    """
    settings = settings or Settings()
    if only_sql and role is None:
        raise Failure("--sql prints what --grant ROLE would run: name the role.")
    if not keeps_state(settings):
        raise Failure("Set DATABASE_URL or LAKEBASE_*: the embedded database sets itself up.")
    import psycopg  # with the rest a second, which `--help` should not take

    from stateful_agent.checkpoints.tables import database_for
    from stateful_agent.errors import AgentError

    database = database_for(settings)
    if only_sql and role is not None:
        return "\n".join(database.grants(role))
    try:
        done = asyncio.run(database.set_up(role))
    except (AgentError, psycopg.Error) as error:
        raise Failure(f"Nothing was set up: {error}") from error
    if role is None:
        done.append("A role that may read and write their rows can run the agent: see --grant.")
    return "\n".join([database.description, *done])
