"""The command line: serve an agent, log it as an MLflow model, deploy it, set up its database."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from stateful_agent.deploy import Failure, check, deploy, log, register, set_up_database, write_path
from stateful_agent.deploy.failure import one_line

ABOUT = "Serve a LangGraph agent with time travel, log it as an MLflow model, deploy it, set up its database."
SERVE = "Serve an agent over HTTP, as OpenAI's Responses API and with time travel."
LOG = "Log an agent as an MLflow model, with the code beside it that it imports, and let it answer in another process."
DEPLOY = "Serve a registered model on Databricks."
SET_UP = "Create the agent's tables in DATABASE_URL or LAKEBASE_*, or bring them up to date, as their owner."
SETTINGS = "The agent's settings, such as AGENT_MODEL and DATABASE_URL, are environment variables."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `stateful-agent`."""
    args = parse(arguments)
    with plain_output():
        match args.command:
            case "serve":
                from stateful_agent.server.processes import serve  # imports that `--help` should not wait for

                try:
                    serve(args.target, args.host, args.port, args.workers)
                except ValueError as error:
                    raise Failure(str(error)) from error
            case "log":
                model = log(args.agent, args.requirements)
                print(f"Logged {model}.", flush=True)
                if args.check:
                    print("Checking it in another process ...", flush=True)
                    check(model)
                    print("It answers.", flush=True)
                if args.register:
                    print(f"Registered {args.register}, version {register(model, args.register)}.")
                if args.path_file:
                    write_path(model, args.path_file)
            case "deploy":
                print(json.dumps(deploy(args.name, args.version, dry_run=args.dry_run), indent=2))
            case "set-up-database":
                print(set_up_database(args.grant))


def parse(arguments: Sequence[str] | None = None, *, agent: Path | None = None) -> argparse.Namespace:
    """Read the command line. With `agent`, that of a script for this one agent, which does not serve."""
    parser = argparse.ArgumentParser(prog=None if agent else "stateful-agent", description=ABOUT, epilog=SETTINGS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=about, description=about, epilog=SETTINGS)

    if agent is None:
        options = command("serve", SERVE)
        target = "the Python file that holds the agent, or a logged model: its folder, models:/... or runs:/..."
        options.add_argument("target", metavar="FILE_OR_MODEL", help=target)
        options.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        options.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
        options.add_argument("--workers", type=int, default=2, help="processes that serve (default: %(default)s)")

    options = command("log", LOG)
    holds = "the Python file that holds the agent and gives it to mlflow.models.set_model"
    if agent is None:
        options.add_argument("agent", metavar="FILE", type=Path, help=holds)
    else:
        holds += f" (default: {agent.name})"
        options.add_argument("--agent", metavar="FILE", type=Path, default=agent, help=holds)
    needs = "what the agent needs installed (default: requirements.txt beside the agent)"
    options.add_argument("--requirements", metavar="FILE", type=Path, help=needs)
    options.add_argument("--register", metavar="NAME", help="register it too, e.g. as catalog.schema.model")
    options.add_argument("--path-file", metavar="FILE", type=Path, help="write the folder of the logged model to FILE")
    unchecked = "do not let the logged model answer, which calls its chat model once"
    options.add_argument("--no-check", dest="check", action="store_false", help=unchecked)

    options = command("deploy", DEPLOY)
    options.add_argument("name", metavar="NAME", help="the registered model: catalog.schema.model")
    options.add_argument("version", metavar="VERSION", help="its version")
    options.add_argument("--dry-run", action="store_true", help="only show what would be created")

    options = command("set-up-database", SET_UP)
    options.add_argument("--grant", metavar="ROLE", help="let ROLE read and write their rows: all that the agent needs")
    return parser.parse_args(arguments)


@contextmanager
def plain_output() -> Iterator[None]:
    """Keeps MLflow's notes on its progress off the screen, and ends the process with one line for a failure."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except (Failure, ValidationError) as error:
        sys.exit(one_line(error))
    except Exception as error:
        mlflow = sys.modules.get("mlflow.exceptions")  # if it is not imported, the error is not its own
        if mlflow is None or not isinstance(error, mlflow.MlflowException):
            raise
        sys.exit(one_line(error))
