"""Lakebase, Databricks' Postgres, as the home of state.

Its passwords are tokens that expire within the hour. Databricks' own pool gets a new one when a new connection needs
it; a connection that is open outlives its token.
"""

import asyncio
import logging
import math
from importlib.util import find_spec
from typing import Any

import psycopg
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

from stateful_agent.errors import AgentError, Misconfigured, StorageUnavailable
from stateful_agent.settings import Settings

logger = logging.getLogger(__name__)


def location_of(settings: Settings) -> dict[str, str]:
    """The Lakebase that the settings name, in the words of Databricks' pool. Empty if they name none.

    Raises:
        Misconfigured: they name half of one, or more than one home.
    """
    names = {
        "instance_name": settings.lakebase_instance_name,
        "autoscaling_endpoint": settings.lakebase_autoscaling_endpoint,
        "project": settings.lakebase_autoscaling_project,
        "branch": settings.lakebase_autoscaling_branch,
    }
    location = {name: value for name, value in names.items() if value}
    if location and settings.database_url:
        raise Misconfigured("DATABASE_URL and a LAKEBASE_* variable are both set: unset one of them.")
    if location and set(location) not in ({"instance_name"}, {"autoscaling_endpoint"}, {"project", "branch"}):
        raise Misconfigured(
            "Name Lakebase in one way: LAKEBASE_INSTANCE_NAME, or LAKEBASE_AUTOSCALING_ENDPOINT, "
            "or LAKEBASE_AUTOSCALING_PROJECT and LAKEBASE_AUTOSCALING_BRANCH, both."
        )
    return location


def in_words(location: dict[str, str]) -> str:
    """The location for people to read."""
    kinds = (name.removeprefix("autoscaling_").removesuffix("_name") for name in location)
    return "Lakebase " + ", ".join(f"{kind} {name!r}" for kind, name in zip(kinds, location.values(), strict=True))


async def lakebase_pool(
    location: dict[str, str], timeout: float, **options: Any
) -> AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]:
    """A pool of connections to a Lakebase that has let one in. It is not open yet.

    `options` are the pool's. `timeout` is how many seconds to wait for the workspace here, and later for a connection.

    Raises:
        Misconfigured: the workspace has no such database, or not for us.
        StorageUnavailable: the workspace does not answer.
        psycopg.OperationalError: the database does not let us in.
    """
    pool_class = await asyncio.to_thread(_import_pool_class)
    try:
        async with asyncio.timeout(timeout):
            pool = (await asyncio.to_thread(_ask_workspace, pool_class, location, timeout=timeout, **options)).pool
            # A pool that opens would try until its time is up, and only log what is wrong.
            await (await pool.connection_class.connect(pool.conninfo)).close()
            return pool
    except (ValueError, OSError, RuntimeError) as error:  # all that Databricks' code raises
        logger.warning("%s cannot be opened: %r (%r)", in_words(location), error, error.__cause__)
        raise typed(error) from error


async def check_entry(location: dict[str, str], timeout: float) -> None:
    """See that a Lakebase lets us in. Raises the same as `lakebase_pool`."""
    await (await lakebase_pool(location, timeout)).close()


def _import_pool_class() -> Any:
    """The class of Databricks' pool, whose import takes seconds where no server has run before. Blocks."""
    if find_spec("databricks_ai_bridge") is None:
        raise Misconfigured("Lakebase needs a package: pip install 'stateful-agent[databricks]'")
    from databricks_ai_bridge.lakebase import AsyncLakebasePool

    return AsyncLakebasePool


def _ask_workspace(pool_class: Any, location: dict[str, str], timeout: float, **options: Any) -> Any:
    """A pool of the class, made with the address and the user's name that the workspace has. Blocks."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.config import Config

    async def configure(connection: psycopg.AsyncConnection[DictRow]) -> None:
        connection.prepare_threshold = None

    # Left to itself, the client asks a workspace that is away for five minutes.
    seconds = math.ceil(timeout)
    try:
        client = WorkspaceClient(config=Config(http_timeout_seconds=seconds, retry_timeout_seconds=seconds))
    except ValueError as error:
        raise Misconfigured("Lakebase needs a workspace: set DATABRICKS_HOST and credentials for it.") from error
    return pool_class(**location, workspace_client=client, configure=configure, timeout=timeout, **options)


def typed(error: Exception) -> AgentError:
    """The error that a caller gets when Databricks' code fails with `error`."""
    from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied, Unauthenticated

    if isinstance(error.__cause__ or error, BadRequest | NotFound | PermissionDenied | Unauthenticated | ValueError):
        what, _, _ = str(error).partition("\n")  # then follows code to look for it with
        return Misconfigured(f"{what} Check DATABRICKS_HOST and the credentials, too.")
    return StorageUnavailable("The Databricks workspace does not answer: try again in a few seconds.")
