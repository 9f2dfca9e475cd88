"""Which signals end a serving process, and how: Ctrl-C, SIGTERM, a closed terminal, a parent that was killed."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

PR_SET_PDEATHSIG = 1

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ended_at_once(clean_up: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the process at once, after `clean_up`: uvicorn would first let it finish its work.

    No exception is raised, for it may be swallowed: Python's import system prints and forgets it, now and then.
    """

    def end(_signal: int, _frame: Any) -> None:
        clean_up()
        os._exit(0)

    before = {number: signal.signal(number, end) for number in INTERRUPTS}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)  # a worker starts with them blocked
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """Delays Ctrl-C and SIGTERM for the processes that are started here, until they let them through.

    One that is still starting would print a traceback, or take them for uvicorn's, which loads the agent first.
    """
    resource_tracker.ensure_running()  # the start of the first process would start it, and it ends the delay
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def stop_at_hangup() -> None:
    """Makes a closed terminal end the process as SIGTERM does, unless `nohup` lets it ignore that."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda _signal, _frame: signal.raise_signal(signal.SIGTERM))


def stop_with_parent() -> None:
    """Ends a worker whose main process was killed: it would keep the port, and nothing would supervise it.

    The process that it was forked from ends it too: through that one the main process learns what becomes of it.
    """
    if parent := multiprocessing.parent_process():
        signal_at_end_of_parent(signal.SIGTERM)

        def watch() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()


def signal_at_end_of_parent(number: signal.Signals) -> None:
    """Have the kernel, if it is Linux, send this process a signal when the one ends that has started it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


class Stopping:
    """Knows when the process was told to stop, by Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        self._since: float | None = None

    def watch(self) -> None:
        """Begin, once the handlers are there that stop it.

        Only the first Ctrl-C counts: at the second, uvicorn would leave the database running.
        """
        for number in INTERRUPTS:
            stop: Any = signal.getsignal(number)

            def stop_once(number: int, frame: Any, stop: Any = stop) -> None:
                self._since = self._since or time.monotonic()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                stop(number, frame)

            signal.signal(number, stop_once)

    def seconds_left(self, seconds: float) -> float:
        """What is left of so many seconds since then."""
        return seconds if self._since is None else max(0.0, self._since + seconds - time.monotonic())
