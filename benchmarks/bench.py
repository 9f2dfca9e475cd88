"""What the measurements of one run share: a folder, a Postgres, a store for traces, and the logged models."""

import asyncio
import functools
import os
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import uvloop

from benchmarks.postgres import Postgres
from benchmarks.serving import ROOT, log_model, with_agent
from benchmarks.tracking import TrackingServer
from stateful_agent.database.embedded import EmbeddedPostgres
from stateful_agent.server.garbage import collect_rarely

T = TypeVar("T")


class Bench:
    """One run. `quick` tries everything a few times only: to see that it works, not what it costs."""

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.folder, self.quick = folder, quick
        self._stores = 0
        self._tracking = TrackingServer()
        self.tracking, self.traces = self._tracking.url, self._tracking.traces
        self._postgres = Postgres(EmbeddedPostgres(folder / "postgres"))
        self.database = self._postgres.database
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        os.environ["MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS"] = "1"  # as the server does, and this too:
        collect_rarely()
        mlflow.set_tracking_uri(self.tracking)
        mlflow.set_experiment("Default")
        mlflow.tracing.enable()

    def close(self) -> None:
        """Stop the Postgres."""
        mlflow.flush_trace_async_logging()
        self._tracking.close()
        self._postgres.stop()

    def times(self, n: int) -> int:
        """How often to try what is worth trying `n` times."""
        return max(2, n // 20) if self.quick else n

    def seconds(self, n: float) -> float:
        """How long to do what is worth doing for `n` seconds."""
        return n / 10 if self.quick else n

    def report(self, text: str) -> None:
        """Show progress."""
        print(f"  {time.strftime('%H:%M:%S')}  {text}", flush=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on an event loop such as the server's."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)

    @functools.cached_property
    def model(self) -> str:
        """The folder of the logged agent."""
        self.report("logging the agent")
        return log_model(f"sqlite:///{self.folder}/mlflow.db", self.folder)

    @functools.cached_property
    def instant_model(self) -> str:
        """The same around a model that answers at once."""
        return with_agent(self.model, ROOT / "benchmarks" / "instant.py", self.folder / "instant")

    def store(self) -> str:
        """The URI of a tracking store of a server's own: a copy of the one that the agent was logged to."""
        assert self.model
        self._stores += 1
        copy = self.folder / f"mlflow-{self._stores}.db"
        shutil.copy(self.folder / "mlflow.db", copy)
        return f"sqlite:///{copy}"


TRACE_WRITTEN = 0.15
"""Seconds that writing a trace takes at most, alone. MLflow's own way to wait for it takes more than one."""


@contextmanager
def untraced() -> Iterator[None]:
    """For turns that only lead up to what is measured."""
    mlflow.tracing.disable()
    try:
        yield
    finally:
        mlflow.tracing.enable()


async def alone(turn: Callable[[], Awaitable[T]]) -> tuple[float, T]:
    """The seconds that `turn` takes, once the trace of the one before it is written. Returns what it does, too."""
    await asyncio.sleep(TRACE_WRITTEN)
    began = time.perf_counter()
    result = await turn()
    return time.perf_counter() - began, result


async def median_of(times: int, work: Callable[[], Awaitable[Any]]) -> float:
    """The median of the seconds that `work` takes."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
