"""The process that stores the traces of all workers.

MLflow's store takes longer to store a trace than the server to take a turn. In a process of its own, which gets what
the others leave of the processor, it delays no turn; many traces together cost it half of what they cost one by one.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from multiprocessing.process import BaseProcess
from pathlib import Path

from stateful_agent.server.fork_server import Context
from stateful_agent.server.signals import INTERRUPTS, interrupts_delayed, stop_with_parent

logger = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024 * 1024
"""Of traces that wait to be stored. What comes beyond is dropped, and counted."""

BATCH = 100
"""Traces that are handed over together at most, and about as many are stored together."""

END_SECONDS = 5.0
"""For what still waits to be stored, when the server stops."""

NICENESS = 10
"""Of a core that is wanted by others too, the process gets about a tenth."""

RESTART_SECONDS = 1.0


@dataclass(frozen=True)
class WriterAddress:
    """Where workers reach the writer."""

    path: str
    """Of a socket."""

    key: bytes = field(repr=False)
    """Who knows it may connect."""


class TraceWriter:
    """Keeps the process running, from the one that supervises the server."""

    def __init__(self, address: WriterAddress, processes: Context) -> None:
        self._address, self._processes = address, processes
        self._process: BaseProcess | None = None
        self._is_closing = threading.Event()

    def start(self) -> None:
        """Start it. Whoever is interrupted here has it to close, too."""
        threading.Thread(target=self._keep, args=(self._start(),), daemon=True).start()

    def close(self) -> None:
        """Let it store what it has, and end it, if it was started."""
        self._is_closing.set()
        if self._process:
            self._process.terminate()
            self._process.join(END_SECONDS + 1)
            self._process.kill()
            self._process.join()

    def _start(self) -> BaseProcess:
        process = self._processes.Process(target=write_traces, args=(self._address,), daemon=True)
        with interrupts_delayed():
            process.start()
            self._process = process
        return process

    def _keep(self, process: BaseProcess) -> None:
        while True:
            process.join()
            if self._is_closing.wait(RESTART_SECONDS):
                return
            process = self._start()


def write_traces(address: WriterAddress) -> None:
    """Store traces as they come, until SIGTERM; then what is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervising process ends this one, after the workers
    backlog = Backlog()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: backlog.close())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)  # it starts with them blocked
    stop_with_parent()
    os.nice(NICENESS)
    Path(address.path).unlink(missing_ok=True)  # one that was killed leaves it
    with Listener(address.path, "AF_UNIX", authkey=address.key) as listener:
        threading.Thread(target=_accept, args=(listener, backlog), daemon=True).start()
        while deliveries := backlog.take():
            _store(deliveries[0].tracking_uri, [trace for delivery in deliveries for trace in delivery.traces])
            for delivery in deliveries:
                delivery.worker.confirm(delivery.number)


class Worker:
    """The process of a server from which traces come, over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._order = threading.Lock()

    def confirm(self, number: int) -> None:
        """Tell it that a delivery needs not be kept any longer."""
        with self._order, suppress(OSError):  # it may have ended meanwhile
            self._connection.send(number)


@dataclass(frozen=True)
class Delivery:
    """Traces that a worker has handed over together. It keeps them until they are confirmed."""

    worker: Worker
    number: int
    tracking_uri: str
    traces: list[bytes]


class Backlog:
    """The traces that wait to be stored."""

    def __init__(self) -> None:
        self._deliveries: deque[Delivery] = deque()
        self._bytes, self._is_closed = 0, False
        self._changed = threading.Condition()

    def put(self, delivery: Delivery) -> bool:
        """Add some. Returns whether there was room."""
        size = sum(map(len, delivery.traces))
        with self._changed:
            has_room = self._bytes + size <= MOST_BYTES
            if has_room:
                self._deliveries.append(delivery)
                self._bytes += size
                self._changed.notify()
        return has_room

    def take(self) -> list[Delivery]:
        """The next ones, for one store, about `BATCH` traces; empty if there are no more, and none come any more."""
        taken: list[Delivery] = []
        with self._changed:
            while not self._deliveries and not self._is_closed:
                self._changed.wait(0.5)  # seconds; a signal is handled in between
            count = 0
            while self._deliveries and count < BATCH:
                if taken and self._deliveries[0].tracking_uri != taken[0].tracking_uri:
                    break
                taken.append(self._deliveries.popleft())
                count += len(taken[-1].traces)
                self._bytes -= sum(map(len, taken[-1].traces))
        return taken

    def close(self) -> None:
        """Let `take` end after what is there."""
        self._is_closed = True


def _store(tracking_uri: str, traces: list[bytes]) -> None:
    """Store some. Those that cannot be stored are dropped, with a warning."""
    try:
        from stateful_agent.server.trace_store import store_of  # imports most of MLflow, once there are traces

        errors = store_of(tracking_uri).add([pickle.loads(trace) for trace in traces])
    except Exception as error:
        errors = [error] * len(traces)
    if errors:
        logger.warning("%d traces cannot be stored: %s", len(errors), errors[0])
        _count_dropped(len(errors))


def _count_dropped(traces: int) -> None:
    from stateful_agent.metrics import TRACES_DROPPED  # which imports much that is not needed here otherwise

    TRACES_DROPPED.labels("writer").inc(traces)


def _accept(listener: Listener, backlog: Backlog) -> None:
    while True:
        try:
            connection = listener.accept()
        except (OSError, EOFError, multiprocessing.AuthenticationError):
            continue
        threading.Thread(target=_receive, args=(connection, backlog), daemon=True).start()


def _receive(connection: Connection, backlog: Backlog) -> None:
    worker = Worker(connection)
    try:
        while True:
            delivery = Delivery(worker, *connection.recv())
            if not backlog.put(delivery):
                _count_dropped(len(delivery.traces))
                worker.confirm(delivery.number)
    except (OSError, EOFError):
        connection.close()
