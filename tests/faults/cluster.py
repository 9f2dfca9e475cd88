import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from databases import value

from stateful_agent.database.embedded import EmbeddedPostgres


class Cluster(EmbeddedPostgres):
    """A database of a test's own, to be stopped, crashed and held up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = self.start()

    def url_for(self, name: str) -> str:
        """Where a client of that name connects."""
        return psycopg.conninfo.make_conninfo(self.url, application_name=name)

    def crash(self) -> None:
        """Stop at once, with nothing written that was not on disk before."""
        running = self.folder / "postmaster.pid"
        os.kill(int(running.read_text().split()[0]), signal.SIGQUIT)
        while running.exists():
            time.sleep(0.02)

    def backends(self, name: str) -> list[int]:
        """The processes that serve the client of that name."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", [name])
            return [pid for (pid,) in found]

    def has_all_of(self, thread_id: str) -> None:
        """Wait until a server has nothing more to store of the turns of a thread."""
        query = "SELECT bool_and(is_delivered) FROM agent_turns WHERE thread_id = %s"
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not value(connection, query, thread_id):
                time.sleep(0.05)

    @contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """Let nobody answer the client of that name."""
        backends = self.backends(name)
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)
