"""The processes of a server: one that supervises, and workers that serve the agent."""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from stateful_agent.server.connections import BoundedConnection
from stateful_agent.server.fork_server import start_fork_server
from stateful_agent.server.signals import ended_at_once, interrupts_delayed, stop_at_hangup
from stateful_agent.server.target import CannotServe, locate, other_code
from stateful_agent.server.trace_writer import TraceWriter, WriterAddress
from stateful_agent.server.worker import create_worker_app

SHUTDOWN_SECONDS = 8
"""For running turns, when the server is stopped: a container is killed after ten."""


def serve(
    target: str, host: str = "127.0.0.1", port: int = 8000, workers: int = 2, shutdown_seconds: int = SHUTDOWN_SECONDS
) -> None:
    """Serve an agent until the server is stopped.

    `target` is a Python file that holds the agent (it ends with .py), or a logged model: its folder or its MLflow URI.
    A model that brings its own copy of this package is served by that copy. When the server is stopped, running turns
    have `shutdown_seconds` to end; then they are cut off, and their threads are free for others to go on with.

    Raises:
        ValueError: the port or the number of workers is out of range.
        SystemExit: there is no such target, its agent cannot be loaded, or the port is taken. The reason is printed.
    """
    if workers < 1:
        raise ValueError("--workers must be at least 1")
    if not 1 <= port <= 65535:
        raise ValueError("--port must be 1 to 65535")
    if shutdown_seconds < 0:
        raise ValueError("--shutdown-seconds must be at least 0")
    try:
        path = locate(target)
        code = other_code(path)
    except CannotServe as error:
        sys.exit(str(error))
    if code:
        options = ["--host", host, "--port", str(port), "--workers", str(workers)]
        if shutdown_seconds != SHUTDOWN_SECONDS:  # an older copy does not know it
            options += ["--shutdown-seconds", str(shutdown_seconds)]
        _become_server_of(code, [str(path), *options])
    print(f"Loading {target} ...", flush=True)
    with ExitStack() as at_the_end, suppress(KeyboardInterrupt):
        _run(path, host, port, workers, shutdown_seconds, at_the_end)
    print("Stopped.")


def _become_server_of(code: Path, arguments: list[str]) -> None:
    """Replace this process by one that imports what is in `code` before anything else, and so do its workers.

    -P keeps the current folder, which may hold other code, out of the way.
    """
    others = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(code), *([others] if others else [])])}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "stateful_agent.server.processes", *arguments], environment)


def _run(target: Path, host: str, port: int, workers: int, shutdown_seconds: int, at_the_end: ExitStack) -> None:
    """Run the processes. What they leave is removed `at_the_end`."""
    folder = tempfile.TemporaryDirectory(prefix="stateful-agent-", ignore_cleanup_errors=True)
    shared = Path(at_the_end.enter_context(folder))
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    are_traced = os.environ.get("MLFLOW_TRACE_SAMPLING_RATIO") != "0"
    traces_at = WriterAddress(str(shared / "traces"), os.urandom(32)) if are_traced else None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)  # where all processes count together
    config = uvicorn.Config(
        partial(create_worker_app, target, host, address, shared, traces_at, shutdown_seconds),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=BoundedConnection,
        log_level="warning",
        timeout_graceful_shutdown=shutdown_seconds,
        timeout_worker_healthcheck=30,
    )
    try:
        sockets = [config.bind_socket()]
    except SystemExit:  # uvicorn has printed why
        print("Choose another address with --port or --host (make serve PORT=... HOST=...).", file=sys.stderr)
        raise
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C; uvicorn raises it again, at the end
    stop_at_hangup()
    on_hangup = signal.getsignal(signal.SIGHUP)
    processes = start_fork_server() if workers > 1 else multiprocessing.get_context("spawn")
    if traces_at:
        writer = TraceWriter(traces_at, processes)
        at_the_end.callback(writer.close)
        writer.start()
    if workers > 1:
        supervisor = Supervisor(config, sockets)
        signal.signal(signal.SIGHUP, on_hangup)  # uvicorn would start new workers
        supervisor.run()
        if STARTUP_FAILURE in {process.exitcode for process in supervisor.processes}:
            sys.exit(STARTUP_FAILURE)
    else:

        def stop() -> None:
            at_the_end.close()
            print("Stopped.", flush=True)

        with ended_at_once(stop):
            config.load()
        uvicorn.Server(config).run(sockets)


class Supervisor(Multiprocess):
    """Starts the workers, and replaces those that end or hang."""

    def init_processes(self) -> None:
        """Start them."""
        with interrupts_delayed():
            super().init_processes()

    def terminate_all(self) -> None:
        """End them."""
        for process in self.processes:
            with suppress(ProcessLookupError):  # it has ended, and the process that it was forked from has not told yet
                process.terminate()

    def keep_subprocess_alive(self) -> None:
        """Ask each whether it is alive, and replace those that are not. This happens twice a second."""
        # Uvicorn keeps the worker's end of the pipe open here too. A worker that died while it was asked would be
        # waited for as long as one that is busy: it would not be replaced, and Ctrl-C would do nothing meanwhile.
        for process in self.processes:
            process.child_conn.close()
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for ended in before - {process.pid for process in self.processes}:
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(ended)  # type: ignore[no-untyped-call]  # its turns run no more


def main() -> None:
    """Serve an agent."""
    parser = argparse.ArgumentParser(prog="python -m stateful_agent.server.processes", description=main.__doc__)
    parser.add_argument("target", help="a Python file that holds an agent, or a logged model: models:/... or a folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that serve (default: %(default)s)")
    parser.add_argument("--shutdown-seconds", type=int, default=SHUTDOWN_SECONDS, help="for running turns to end")
    args = parser.parse_args()
    try:
        serve(args.target, args.host, args.port, args.workers, args.shutdown_seconds)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
