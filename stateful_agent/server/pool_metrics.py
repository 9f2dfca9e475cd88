"""How busy the connections to the database are, for Prometheus."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stateful_agent.database.pool import Database
from stateful_agent.errors import AgentError
from stateful_agent.metrics import CONNECTIONS, WAITING

SECONDS = 5.0
"""Between two looks."""


@contextmanager
def pool_watched(database: Database) -> Iterator[None]:
    """Look at its pool now and then, on the loop that is running."""
    watching = asyncio.get_running_loop().create_task(_watch(database))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(database: Database) -> None:
    while True:
        try:
            stats = (await database.pool()).connections.get_stats()
        except AgentError:
            stats = {}  # there are none, until a request opens the pool again
        open_, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        CONNECTIONS.labels("in_use").set(open_ - idle)
        CONNECTIONS.labels("idle").set(idle)
        WAITING.set(stats.get("requests_waiting", 0))
        await asyncio.sleep(SECONDS)
