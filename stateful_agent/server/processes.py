"""The web server: processes that serve the logged model.

python -m stateful_agent.server.processes MODEL_URI [--host HOST] [--port PORT] [--workers N]
"""

import argparse
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

WELCOME = """
  model     {model}
            answers come from {answers}
  database  {database}
  address   {address}     (Ctrl-C stops the server and its database)

Try it from this folder, in another terminal:

curl -s {address}/responses -H 'content-type: application/json' \\
  -d '{{"input": "I am headed to SF!", "custom_inputs": {{"thread_id": "my-trip"}}}}'

{python} - <<'EOF'
from openai import OpenAI
client = OpenAI(base_url="{address}", api_key="none needed")
for text in ["I'm headed to SF!", "Where did I say I'm going?"]:
    answer = client.responses.create(
        model="stateful-agent", input=text, extra_body={{"custom_inputs": {{"thread_id": "my-trip"}}}}
    )
    print(answer.output_text, answer.custom_outputs)
EOF
"""


def served(model: str, address: str, announced: Any) -> "ASGIApp":
    """The app that serves a logged model. The first process to be ready says so: the one that can have `announced`."""
    stop_at_hangup()
    stop_with_parent()
    gc.disable()  # it would look through all that is imported, again and again
    with interruptible():
        # Seconds of imports, which the process that only watches over the workers need not wait for.
        import mlflow
        from mlflow.exceptions import MlflowException
        from pydantic import ValidationError

        from stateful_agent.errors import AgentError
        from stateful_agent.server.app import create_app

        logging.basicConfig(level=logging.WARNING, format="%(levelname)s  %(name)s: %(message)s")
        # MLflow's ten threads that store traces would get ten times as much of the interpreter as the event loop.
        os.environ.setdefault("MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS", "1")
        mlflow.tracing.disable()  # until it is ready
        try:
            agent: Any = mlflow.pyfunc.load_model(model, suppress_warnings=True).get_raw_model()
        except MlflowException as error:
            reason = error.__cause__ or error
            if not isinstance(reason, AgentError | ValidationError):
                raise
            print(f"The agent cannot be loaded: {reason}", file=sys.stderr)
            sys.exit(STARTUP_FAILURE)  # with any other status, workers would be tried again
    spare_what_stays()

    def ready() -> None:
        hear_ctrl_c_once()
        threading.Thread(target=start_tracing, daemon=True).start()
        if announced.acquire(block=False):
            welcome = WELCOME.format(
                model=os.path.relpath(model) if os.path.isdir(model) else model,
                answers=agent.answers_from,
                database=agent.storage.description,
                address=address,
                python=os.path.relpath(sys.executable),
            )
            print(welcome, flush=True)

    return without_traceback(create_app(agent, ready))


def without_traceback(app: "ASGIApp") -> "ASGIApp":
    """The same app, but why it does not start is told by our errors' messages alone."""

    async def served(scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def tell(message: "Message") -> None:
            if message["type"] == "lifespan.startup.failed":
                _, is_ours, reason = message["message"].rpartition("\nstateful_agent.errors.")
                if is_ours:
                    message["message"] = reason.partition(": ")[2].strip()
            await send(message)

        await app(scope, receive, tell if scope["type"] == "lifespan" else send)

    return served


def spare_what_stays() -> None:
    """Look for garbage seldom, and not in what was imported: that would hold up every stream, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 4, 100)  # a hundred turns that begin at once stay below it
    gc.enable()


class Workers(Multiprocess):
    """The processes that serve."""

    def init_processes(self) -> None:
        """Begin them."""
        # One that hears Ctrl-C while Python itself still starts would print a traceback. It hears it afterwards.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        super().init_processes()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def keep_subprocess_alive(self) -> None:
        """Ask each whether it lives, and replace those that do not. This is done twice a second."""
        # Uvicorn keeps the worker's end of the pipe open here too. A worker that died while it was asked would be
        # waited for as long as for one that is busy: it would not be replaced, and Ctrl-C not be heard.
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


@contextmanager
def interruptible() -> Iterator[None]:
    """Ends the process at once if it is told to stop: uvicorn would first let it finish what it is at."""
    on_int = signal.signal(signal.SIGINT, signal.default_int_handler)
    on_term = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a worker's begin blocked
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, on_int)
        signal.signal(signal.SIGTERM, on_term)


def stop_at_hangup() -> None:
    """Stops the process as SIGTERM does when its terminal is closed, unless `nohup` has it ignore that."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda _signal, _frame: signal.raise_signal(signal.SIGTERM))


def stop_with_parent() -> None:
    """Stops a worker whose main process was killed: it would keep the port, and nobody would watch over it."""
    if parent := multiprocessing.parent_process():

        def watch() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()


def hear_ctrl_c_once() -> None:
    """Makes nothing of more Ctrl-C than one: uvicorn would leave the database running."""
    stop: Any = signal.getsignal(signal.SIGINT)

    def stop_once(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop(number, frame)

    signal.signal(signal.SIGINT, stop_once)


def start_tracing() -> None:
    """Let MLflow trace turns from here on.

    What it imports for that takes as long as half of the start, and its store of traces may be away: nobody waits for
    it, and the turns of the first two seconds are not traced. Where traces go is looked up once: MLflow would ask its
    store again for each turn, and hold up all the others.
    """
    import mlflow

    name, experiment_id = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    try:
        if name or experiment_id:
            mlflow.set_experiment(name, experiment_id=None if name else experiment_id)
        elif not mlflow.get_tracking_uri().startswith("databricks"):  # which has no default one
            mlflow.set_experiment("Default")
    except Exception as error:
        logger.warning("The experiment for traces cannot be looked up: %s", error)
    mlflow.tracing.enable()


def main() -> None:
    """Load a logged model and serve it."""
    parser = argparse.ArgumentParser(prog="python -m stateful_agent.server.processes", description=main.__doc__)
    parser.add_argument("model", help="the logged model: models:/..., runs:/... or a folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that serve (default: %(default)s)")
    args = parser.parse_args()
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    if not 1 <= args.port <= 65535:
        parser.error("--port must be 1 to 65535")

    print(f"Loading {args.model} ...", flush=True)
    announced = multiprocessing.get_context("spawn").Semaphore(1)
    config = uvicorn.Config(
        partial(served, args.model, f"http://{args.host}:{args.port}", announced),
        factory=True,
        host=args.host,
        port=args.port,
        workers=args.workers,
        log_level="warning",
        timeout_graceful_shutdown=2,  # seconds; a turn cut short here is mended when its thread goes on
        timeout_worker_healthcheck=30,
    )
    try:
        sockets = [config.bind_socket()]
    except SystemExit:  # uvicorn has said why
        print("Name another place to listen at: --port, --host; or make serve PORT=... HOST=...", file=sys.stderr)
        raise
    stop_at_hangup()
    on_hangup = signal.getsignal(signal.SIGHUP)
    try:
        if args.workers > 1:
            workers = Workers(config, sockets)
            signal.signal(signal.SIGHUP, on_hangup)  # uvicorn's own way is to begin new workers
            workers.run()
            if STARTUP_FAILURE in {process.exitcode for process in workers.processes}:
                sys.exit(STARTUP_FAILURE)
        else:
            uvicorn.Server(config).run(sockets)
    except KeyboardInterrupt:
        pass
    print("Stopped.")


if __name__ == "__main__":
    main()
