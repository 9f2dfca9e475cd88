"""The app of one serving process: the agent is loaded, served, and announced once it answers."""

import gc
import multiprocessing
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from uvicorn.config import STARTUP_FAILURE

from stateful_agent.server.banner import welcome
from stateful_agent.server.garbage import collect_rarely
from stateful_agent.server.signals import Stopping, ended_at_once, stop_at_hangup, stop_with_parent
from stateful_agent.server.trace_writer import WriterAddress

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stateful_agent.agent import LangGraphResponsesAgent


def create_worker_app(
    target: Path,
    host: str,
    address: str,
    shared: Path,
    trace_writer: WriterAddress | None,
    shutdown_seconds: float,
) -> "ASGIApp":
    """The app that serves the agent of a Python file or a logged model, and hands its traces to a `trace_writer`.

    When it is stopped, its turns have `shutdown_seconds` to end.

    Of the processes, which have a `shared` folder, the first that is ready prints the banner, and the first that fails
    prints why.
    """
    stop_at_hangup()
    stop_with_parent()
    gc.disable()  # it would look through all that is imported, again and again
    # A process without a supervisor has its own way to end.
    with ended_at_once() if multiprocessing.parent_process() else nullcontext():
        # Seconds of imports, which the process that only supervises the workers need not wait for.
        from stateful_agent.server.app import create_app
        from stateful_agent.server.logs import set_up_logs
        from stateful_agent.server.pool_metrics import pool_watched
        from stateful_agent.server.tracing import traced

        agent = _load(target, shared)
        set_up_logs(agent.settings)
    collect_rarely()

    stopping = Stopping()

    @contextmanager
    def serving() -> Iterator[None]:
        stopping.watch()
        with traced(trace_writer), pool_watched(agent.database):
            if _is_first(shared / "ready"):
                print(welcome(target, agent.answers_from, agent.database.description, address), flush=True)
            yield

    return without_traceback(create_app(agent, serving, host, lambda: stopping.seconds_left(shutdown_seconds)))


def _load(target: Path, shared: Path) -> "LangGraphResponsesAgent":
    from stateful_agent.server.loading import CannotLoad, load_agent

    try:
        return load_agent(target)
    except Exception as error:
        if _is_first(shared / "failed"):
            if isinstance(error, CannotLoad):
                print(f"The agent cannot be loaded: {error}", file=sys.stderr)
            else:
                traceback.print_exc()
        sys.exit(STARTUP_FAILURE)  # with any other status, uvicorn would start the worker again


def _is_first(flag: Path) -> bool:
    """Whether this process is the first to create a file."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def without_traceback(app: "ASGIApp") -> "ASGIApp":
    """The same app, but why it does not start is printed as the message of our error alone."""

    async def served(scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def shorten(message: "Message") -> None:
            if message["type"] == "lifespan.startup.failed":
                _, is_ours, reason = message["message"].rpartition("\nstateful_agent.errors.")
                if is_ours:
                    message["message"] = reason.partition(": ")[2].strip()
            await send(message)

        await app(scope, receive, shorten if scope["type"] == "lifespan" else send)

    return served
