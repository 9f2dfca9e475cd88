"""Log the agent as an MLflow model, check what was logged, register it, deploy it, and set up its database."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stateful_agent.settings import Settings

ROOT = Path(__file__).resolve().parent

# Logging a model runs it on its example. `store: false` keeps that away from the database.
INPUT_EXAMPLE = {"input": [{"role": "user", "content": "What can you do?"}], "store": False}

CHECK = """
import json, sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
request = json.loads(sys.argv[2])
assert model.predict(request)["output"], "predict answered nothing"
assert list(model.predict_stream(request))[-1]["type"] == "response.completed", "the stream did not complete"
"""


def log(settings: Settings, agent_file: Path) -> Any:
    """Log the agent that a file sets with `set_model`, with the code it stands on. Returns MLflow's `ModelInfo`.

    Whatever secret the environment holds stays there: the logged model reads its settings where it is served.
    """
    import mlflow  # seconds, which `--help` should not take

    agent_file = agent_file.resolve()
    info = mlflow.pyfunc.log_model(
        name="stateful-agent",
        python_model=str(agent_file),
        code_paths=[str(ROOT / "agent.py"), str(ROOT / "stateful_agent")],
        pip_requirements=str(ROOT / "requirements.txt"),
        input_example=INPUT_EXAMPLE,
        resources=resources(settings),
    )
    # MLflow notes the absolute path of the model's code here, and uses nothing of it but the file's name.
    with tempfile.TemporaryDirectory() as folder:
        mlmodel = Path(mlflow.artifacts.download_artifacts(info.model_uri, dst_path=folder)) / "MLmodel"
        mlmodel.write_text(mlmodel.read_text().replace(str(agent_file), agent_file.name))
        mlflow.MlflowClient().log_model_artifact(info.model_id, str(mlmodel))
    return info


def resources(settings: Settings) -> list[Any]:
    """What a deployed agent needs access to: its model's serving endpoint, and its database.

    MLflow can name a provisioned Lakebase only. Access to an autoscaling one is granted in its project.
    """
    from mlflow.models.resources import DatabricksLakebase, DatabricksServingEndpoint

    provider, _, model = (settings.agent_model or "").partition(":")
    found: list[Any] = []
    if provider == "databricks":
        found.append(DatabricksServingEndpoint(endpoint_name=model))
    if settings.lakebase_instance_name:
        found.append(DatabricksLakebase(database_instance_name=settings.lakebase_instance_name))
    return found


def check(model_uri: str) -> None:
    """Let the logged model answer in another process and another folder.

    Raises:
        subprocess.CalledProcessError: it does not load, or does not answer.
    """
    import mlflow

    environment = os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    with tempfile.TemporaryDirectory() as elsewhere:
        command = [sys.executable, "-P", "-c", CHECK, model_uri, json.dumps(INPUT_EXAMPLE)]
        subprocess.run(command, cwd=elsewhere, env=environment, check=True)


def deployment(name: str, version: str, settings: Settings) -> dict[str, Any]:
    """The serving endpoint to create, in the words of Databricks' REST API, and the resources it needs access to."""
    variables = {"AGENT_MODEL": settings.agent_model} | {
        name.upper(): value for name, value in settings if name.startswith("lakebase_")
    }
    served = {
        "entity_name": name,
        "entity_version": version,
        "workload_size": "Small",
        "scale_to_zero_enabled": True,
        "environment_vars": {key: value for key, value in variables.items() if value},
    }
    return {
        "endpoint": {"name": name.replace(".", "-"), "config": {"served_entities": [served]}},
        "resources": [resource.to_dict() for resource in resources(settings)],
    }


def set_up_database(settings: Settings, role: str | None) -> str:
    """Create the agent's tables or bring them up to date. Returns what was done, and what is left to do, in words.

    Raises:
        AgentError: the settings do not lead to the database or the schema.
        psycopg.Error: the database does not let this role do it. Nothing was changed.
    """
    from stateful_agent.checkpoints.store import database_for

    storage = database_for(settings)
    done = asyncio.run(storage.set_up(role))
    if role is None:
        done.append("A role that may read and write their rows can run the agent: see --grant.")
    return "\n".join([storage.description, *done])


def main() -> None:
    """Log the agent as an MLflow model, check what was logged, register it, deploy it, and set up its database."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("log", help="log the agent, and check the logged model in another process")
    command.add_argument("--agent", metavar="FILE", type=Path, default=ROOT / "agent.py", help="an agent of your own")
    command.add_argument("--register", metavar="NAME", help="register it too, e.g. as catalog.schema.model")
    command.add_argument("--path-file", metavar="FILE", type=Path, help="write the folder of the logged model to FILE")
    command = commands.add_parser("deploy", help="serve a registered model on Databricks")
    command.add_argument("name", help="the registered model: catalog.schema.model")
    command.add_argument("version", help="its version")
    command.add_argument("--dry-run", action="store_true", help="only show what would be created")
    about = "create the agent's tables in DATABASE_URL or LAKEBASE_*, or bring them up to date, as their owner"
    command = commands.add_parser("set-up-database", help=about, description=about)
    command.add_argument("--grant", metavar="ROLE", help="let ROLE read and write their rows: all that the agent needs")
    args = parser.parse_args()

    settings = Settings()
    if args.command == "set-up-database":
        if not settings.database_url and not any(value for name, value in settings if name.startswith("lakebase_")):
            parser.error("set DATABASE_URL or LAKEBASE_*: the embedded database sets itself up")
        import psycopg

        from stateful_agent.errors import AgentError

        try:
            print(set_up_database(settings, args.grant))
        except (AgentError, psycopg.Error) as error:
            sys.exit(f"Nothing was set up: {error}")
        return
    if args.command == "deploy":
        if not args.dry_run:
            parser.error("deploying is not built yet: add --dry-run to see what it will create")
        print(json.dumps(deployment(args.name, args.version, settings), indent=2))
        return

    print("Logging the agent ...", flush=True)
    import mlflow

    info = log(settings, args.agent)
    print(f"Logged {info.model_uri}. Checking it in another process ...", flush=True)
    check(info.model_uri)
    print("It answers.", flush=True)
    if args.register:
        version = mlflow.register_model(info.model_uri, args.register)
        print(f"Registered {args.register}, version {version.version}.")
    if args.path_file:
        args.path_file.write_text(mlflow.artifacts.download_artifacts(info.model_uri))


if __name__ == "__main__":
    main()
