"""The arguments of the command line."""

import argparse
from pathlib import Path

ABOUT = "Serve a LangGraph agent with time travel, log it as an MLflow model, deploy it, set up its database."
SETTINGS = "The agent's settings, such as AGENT_MODEL and DATABASE_URL, are environment variables."
SERVE = "Serve an agent over HTTP, as OpenAI's Responses API and with time travel."
LOG = "Log an agent as an MLflow model, with the code beside it that it imports, and let it answer in another process."
CHECK = (
    "Let a logged model answer as an endpoint lets it: in an environment made of its own requirements, in other "
    "processes, in forks, behind MLflow's servers, to several callers. Its chat model is asked eight times."
)
EVALUATE = (
    "Play conversations with an agent, and check what it remembers, forks, refuses, and how long it takes; all is kept "
    "as a run of MLflow. Where AGENT_MODEL is set, a judge reads the answers, and simulated users have goals. If a "
    "check does not hold, the status is 1; what the judge says does not change it."
)
REGISTER = "Register a logged model, in Unity Catalog if its name is catalog.schema.model."
DEPLOY = (
    "Serve a registered model at an endpoint of Databricks, or the agent's file as a Databricks App, with the settings "
    "that are set here, and wait until it answers. Run again, it goes on where it was cut off."
)
STATUS = "Show what an endpoint or an app serves, and how far that is."
CALL = "Ask a deployed agent a question, and show its answer as it comes."
LOGS = "Show the log of a version's build and of its serving."
UNDEPLOY = "Serve a model or an app no more. Its conversations stay in the database."
ENCRYPT = (
    "Encrypt all that is stored with LANGGRAPH_AES_KEY, which may be new, while turns go on. Older keys are read from "
    "DECRYPTION_KEYS."
)
SET_UP = "Create the agent's tables in DATABASE_URL or LAKEBASE_*, or bring them up to date, as their owner."

ALL = "Log the agent, check what was logged, register it, deploy it: all of these steps, in order."

HOLDS = "the Python file that holds the agent and gives it to mlflow.models.set_model"
DRY_RUN = "change nothing: show each call that would be made, with its arguments"
SERVED = "the endpoint, or the model that it serves: catalog.schema.model; or the app: apps/NAME"


def parse(arguments: list[str] | None = None, *, agent: Path | None = None) -> argparse.Namespace:
    """Read the command line. With `agent`, that of a script for this one agent, which does not serve."""
    parser = argparse.ArgumentParser(prog=None if agent else "stateful-agent", description=ABOUT, epilog=SETTINGS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=about, description=about, epilog=SETTINGS)

    if agent is None:
        _serve(command("serve", SERVE))
    _log(command("log", LOG), agent)
    _check(command("check", CHECK))
    _evaluate(command("evaluate", EVALUATE), agent)
    _register(command("register", REGISTER))
    _deploy(command("deploy", DEPLOY), agent)
    if agent is not None:
        _all(command("all", ALL), agent)
    _status(command("status", STATUS))
    _call(command("call", CALL))
    _logs(command("logs", LOGS))
    _undeploy(command("undeploy", UNDEPLOY))
    command("encrypt-anew", ENCRYPT)
    _set_up_database(command("set-up-database", SET_UP))
    args = parser.parse_args(arguments)
    if args.command == "deploy" and (problem := _contradiction(args)):
        parser.error(problem)
    return args


def _serve(options: argparse.ArgumentParser) -> None:
    target = "the Python file that holds the agent, or a logged model: its folder, models:/... or runs:/..."
    options.add_argument("target", metavar="FILE_OR_MODEL", help=target)
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    options.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    options.add_argument("--workers", type=int, default=2, help="processes that serve (default: %(default)s)")
    about = "in which running turns may end when the server is stopped (default: %(default)s)"
    options.add_argument("--shutdown-seconds", type=int, default=8, metavar="N", help=about)


def _log(options: argparse.ArgumentParser, agent: Path | None) -> None:
    if agent is None:
        options.add_argument("agent", metavar="FILE", type=Path, help=HOLDS)
    else:
        options.add_argument(
            "--agent", metavar="FILE", type=Path, default=agent, help=f"{HOLDS} (default: {agent.name})"
        )
    needs = "what the agent needs installed (default: requirements.txt beside the agent)"
    options.add_argument("--requirements", metavar="FILE", type=Path, help=needs)
    options.add_argument("--register", metavar="NAME", help="register it too, e.g. as catalog.schema.model")
    options.add_argument("--path-file", metavar="FILE", type=Path, help="write the folder of the logged model to FILE")
    unchecked = "do not let the logged model answer, which calls its chat model once"
    options.add_argument("--no-check", dest="check", action="store_false", help=unchecked)
    options.add_argument("--dry-run", action="store_true", help=DRY_RUN)


def _check(options: argparse.ArgumentParser) -> None:
    options.add_argument("model", metavar="MODEL", help="the logged model: its folder, models:/... or runs:/...")
    here = "only let it answer once, in another process with the packages that are installed here, as `log` does"
    options.add_argument("--here", action="store_true", help=here)
    options.add_argument("--dry-run", action="store_true", help=DRY_RUN)


def _evaluate(options: argparse.ArgumentParser, agent: Path | None) -> None:
    target = "the Python file that holds the agent, a logged model, or the address of a server: http://..."
    options.add_argument("target", metavar="AGENT", nargs="?", default=agent or Path("agent.py"), help=target)
    conversations = "YAML like stateful_agent/evaluation/conversations.yaml, which it is by default"
    options.add_argument("--conversations", metavar="FILE", type=Path, help=conversations)
    longest = "how long a turn may take (default: %(default)s)"
    options.add_argument("--seconds", type=float, default=60.0, help=longest)
    judge = (
        "the model that judges, in MLflow's form, e.g. openai:/gpt-5 (default: AGENT_MODEL, where MLflow can ask it)"
    )
    options.add_argument("--judge", metavar="MODEL", help=judge)
    options.add_argument("--no-judge", dest="judged", action="store_false", help="leave out what needs a model")


def _register(options: argparse.ArgumentParser) -> None:
    options.add_argument("model", metavar="MODEL", help="the logged model: models:/..., runs:/... or its folder")
    options.add_argument("name", metavar="NAME", help="its name: catalog.schema.model, or one of MLflow's own registry")
    options.add_argument("--alias", help="let this alias name the version from now on, e.g. champion")
    options.add_argument("--dry-run", action="store_true", help=DRY_RUN)


def _deploy(options: argparse.ArgumentParser, agent: Path | None) -> None:
    options.add_argument("name", metavar="MODEL", nargs="?", help="the registered model: catalog.schema.model")
    options.add_argument("version", metavar="VERSION", nargs="?", help="its version or alias (default: the newest)")
    options.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    _configured(options)
    _of_endpoint(options)
    app = options.add_argument_group("an app, instead of an endpoint")
    app.add_argument("--app", metavar="NAME", help="serve the agent's file as this app")
    app.add_argument("--agent", metavar="FILE", type=Path, default=agent or Path("agent.py"), help=HOLDS)
    written = "only write what the app is made of, with a bundle, to FOLDER: for databricks bundle deploy"
    app.add_argument("--write", metavar="FOLDER", type=Path, help=written)


def _all(options: argparse.ArgumentParser, agent: Path) -> None:
    options.add_argument("name", metavar="MODEL", help="the name to register it by: catalog.schema.model")
    options.add_argument("--agent", metavar="FILE", type=Path, default=agent, help=HOLDS)
    options.set_defaults(dry_run=False)
    _configured(options)
    _of_endpoint(options)


def _configured(options: argparse.ArgumentParser) -> None:
    secret = "a secret variable, and the workspace's secret that has its value; may be repeated"
    options.add_argument("--secret", metavar="NAME=SCOPE/KEY", type=_secret, action="append", default=[], help=secret)
    given = "another variable of the agent, that is no secret; may be repeated"
    options.add_argument("--env", metavar="NAME=VALUE", type=_pair, action="append", default=[], help=given)
    options.add_argument("--budget-policy", metavar="ID", help="the workspace's policy that it is billed to")
    unchecked = "do not let the agent answer here first, nor look for its Lakebase: for what is reached from there only"
    options.add_argument("--no-check", dest="check", action="store_false", help=unchecked)
    minutes = "how long to wait until it is ready (default: %(default)s)"
    options.add_argument("--minutes", type=float, default=60.0, help=minutes)


def _of_endpoint(options: argparse.ArgumentParser) -> None:
    endpoint = options.add_argument_group("an endpoint")
    endpoint.add_argument("--endpoint", metavar="NAME", help="where to serve it (default: agents_catalog-schema-model)")
    sizes = ("Small", "Medium", "Large")
    endpoint.add_argument("--workload-size", choices=sizes, default="Small", help="(default: %(default)s)")
    endpoint.add_argument("--scale-to-zero", action="store_true", help="stop when nobody calls; the next call waits")
    tag = "a tag of the endpoint; may be repeated"
    endpoint.add_argument("--tag", metavar="NAME=VALUE", type=_pair, action="append", default=[], help=tag)


def _contradiction(args: argparse.Namespace) -> str | None:
    """What does not go together of the options of `deploy`."""
    if (args.name is None) == (args.app is None):
        return "name a registered model, or an app with --app"
    if args.app and (args.endpoint or args.tag or args.scale_to_zero or args.workload_size != "Small"):
        return "--endpoint, --workload-size, --scale-to-zero and --tag are of an endpoint, not of an app"
    if args.write and not args.app:
        return "--write is for an app: name it with --app"
    return None


def _status(options: argparse.ArgumentParser) -> None:
    options.add_argument("name", metavar="NAME", help=SERVED)


def _call(options: argparse.ArgumentParser) -> None:
    options.add_argument("name", metavar="NAME", help=SERVED)
    options.add_argument("text", metavar="TEXT", help="the question")
    options.add_argument("--thread-id", metavar="ID", help="go on in this conversation (default: a new one)")
    options.add_argument("--checkpoint-id", metavar="ID", help="go on from this checkpoint of it")
    options.add_argument("--user", metavar="ID", help="whose it is, where TRUSTED_IDENTITY is context")


def _logs(options: argparse.ArgumentParser) -> None:
    options.add_argument("name", metavar="NAME", help=SERVED)
    options.add_argument("version", metavar="VERSION", nargs="?", help="the version (default: the newest there)")


def _undeploy(options: argparse.ArgumentParser) -> None:
    options.add_argument("name", metavar="NAME", help="the registered model: catalog.schema.model; or apps/NAME")
    options.add_argument("version", metavar="VERSION", nargs="?", help="this version only (default: all of it)")
    options.add_argument("--endpoint", metavar="NAME", help="where it is served, if it was given to deploy")
    options.add_argument("--dry-run", action="store_true", help=DRY_RUN)


def _set_up_database(options: argparse.ArgumentParser) -> None:
    options.add_argument("--grant", metavar="ROLE", help="let ROLE read and write their rows: all that the agent needs")
    options.add_argument("--sql", action="store_true", help="change nothing: print the SQL, for who may run it")


def _pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _secret(text: str) -> tuple[str, str]:
    """`NAME=SCOPE/KEY`."""
    name, place = _pair(text)
    scope, _, key = place.partition("/")
    if not (scope and key) or "/" in key:
        raise argparse.ArgumentTypeError(f"{name} needs the place of a secret, SCOPE/KEY")  # never the value
    return name, place
