"""The command line: serve an agent, log it as an MLflow model, deploy it, set up its database."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from stateful_agent import deploy
from stateful_agent.arguments import parse
from stateful_agent.deploy.failure import Failure, one_line


def main(arguments: list[str] | None = None) -> None:
    """Run the command `stateful-agent`."""
    args = parse(arguments)
    with plain_output():
        run(args)


def run(args: Namespace) -> None:
    """Do what the command line says."""
    match args.command:
        case "serve":
            from stateful_agent.server.processes import serve  # imports that `--help` should not wait for

            try:
                serve(args.target, args.host, args.port, args.workers, args.shutdown_seconds)
            except ValueError as error:
                raise Failure(str(error)) from error
        case "log" if args.dry_run:
            show_call("mlflow.pyfunc.log_model", **deploy.planned(args.agent, args.requirements))
        case "log":
            tell("Logging the agent ...")
            model = deploy.log(args.agent, args.requirements)
            tell(f"Logged {model}.")
            if args.check:
                tell("Checking it in another process ...")
                deploy.check(model)
                tell("It answers.")
            if args.register:
                tell(f"Registered {args.register}, version {deploy.register(model, args.register)}.")
            if args.path_file:
                deploy.write_path(model, args.path_file)
        case "check" if args.dry_run:
            show_call("check" if args.here else "check_served", model_uri=args.model)
        case "check":
            if args.here:
                deploy.check(args.model)
            else:
                deploy.check_served(args.model, tell)
            tell("It answers.")
        case "register" if args.dry_run:
            show_call("mlflow.register_model", model_uri=args.model, name=args.name)
            if args.alias:
                show_call("MlflowClient.set_registered_model_alias", name=args.name, alias=args.alias, version="...")
        case "register":
            tell(f"Registering it as {args.name} ...")
            version = deploy.register(args.model, args.name, args.alias)
            tell(f"{args.name}, version {version}{f', is {args.alias} now' if args.alias else ''}.")
            tell(f"To serve it: deploy {args.name} {args.alias or version}")
        case "deploy" if args.app:
            deploy_app(args)
        case "deploy":
            deploy_endpoint(args)
        case "status":
            app = deploy.app_of(args.name)
            for line in deploy.app_status(app) if app else deploy.status(args.name):
                print(line)
        case "call":
            call(args)
        case "logs":
            app = deploy.app_of(args.name)
            for text in deploy.app_logs(app) if app else deploy.logs(args.name, args.version):
                print(text)
        case "undeploy" if app := deploy.app_of(args.name):
            if args.dry_run:
                show_call("WorkspaceClient.apps.delete", name=app)
            else:
                tell(deploy.delete_app(app))
        case "undeploy" if args.dry_run:
            show_call("databricks.agents.delete_deployment", model_name=args.name, model_version=args.version)
        case "undeploy":
            tell(deploy.undeploy(args.name, args.version, args.endpoint or deploy.endpoint_of(args.name)))
        case "evaluate":
            evaluate_agent(args)
        case "encrypt-anew":
            tell(deploy.encrypt_anew(tell))
        case "set-up-database":
            print(deploy.set_up_database(args.grant, only_sql=args.sql))


def deploy_endpoint(args: Namespace) -> None:
    """Serve a registered model: refuse what could not work, let it answer here, create it, wait, and ask it."""
    found = deploy.configuration(os.environ, dict(args.env), dict(args.secret))
    endpoint = args.endpoint or deploy.endpoint_of(args.name)
    deployment = deploy.Deployment(
        model=args.name,
        version=deploy.version_of(args.name, args.version),
        endpoint=endpoint,
        configuration=found,
        workload_size=args.workload_size,
        scale_to_zero=args.scale_to_zero,
        tags=dict(args.tag),
        budget_policy=args.budget_policy,
    )
    tell(f"{deployment.model}, version {deployment.version}, at {endpoint}.")
    deploy.refuse(deployment)
    if args.dry_run:
        show_call("databricks.agents.deploy", **deployment.arguments())
        return
    if args.check:
        tell("Letting it answer here with what it will be configured with ...")
        deploy.check_configured(deployment)
    tell(deploy.create(deployment))
    deploy.wait(endpoint, deployment.version, tell, args.minutes)
    try_out(endpoint, found)


def deploy_app(args: Namespace) -> None:
    """Serve the agent's file as an app: refuse what could not work, let it answer here, create it, wait, and ask it."""
    app = deploy.DatabricksApp(
        name=args.app,
        agent_file=args.agent,
        configuration=deploy.app_configuration(os.environ, dict(args.env), dict(args.secret)),
        budget_policy=args.budget_policy,
    )
    deploy.refuse_app(app)
    resources = deploy.app_resources(app.configuration, deploy.database_of(app.configuration.settings()))
    if args.dry_run:
        print(f"app.yaml:\n{deploy.app_yaml(app)}")
        show_call("WorkspaceClient.apps.create", name=app.name, resources=[one.as_dict() for one in resources])
        show_call("WorkspaceClient.apps.deploy", app_name=app.name, source_code_path=deploy.source_path(app.name))
        return
    with TemporaryDirectory() as temporary:
        folder = args.write or Path(temporary)
        files = deploy.write_app(app, resources, folder)
        if args.check:
            deploy.check_app(app, folder, tell)
        if args.write:
            tell(f"Wrote {len(files)} files to {folder}. To deploy them: cd {folder} && databricks bundle deploy")
            return
        deploy.create_app(app, resources, tell, args.minutes)
        tell(deploy.let_into_database(app))
        deploy.upload_and_run(app.name, folder, files, tell, args.minutes)
    try_out(f"apps/{app.name}", app.configuration)


def try_out(target: str, found: deploy.Configuration) -> None:
    """Ask what was deployed a first question, fork from the answer, and show how to call it."""
    tell("Asking it a first question, and forking from the answer ...")
    for seen in deploy.try_out(target, with_user=found.settings().trusted_identity == "context"):
        tell(seen)
    print(f"\nTo call it:\n\n{deploy.SNIPPET.format(target=target)}")


def call(args: Namespace) -> None:
    """Ask a deployed agent, show its answer as it comes, and then how to go on."""
    given = {"thread_id": args.thread_id, "checkpoint_id": args.checkpoint_id}
    asked = deploy.Asked(
        deploy.endpoint_of(args.name), args.text, {name: value for name, value in given.items() if value}, args.user
    )
    for words in asked.words():
        print(words, end="", flush=True)
    place = asked.custom_outputs
    print(f"\n\n--thread-id {place['thread_id']} --checkpoint-id {place['checkpoint_id']}")


def evaluate_agent(args: Namespace) -> None:
    """Play conversations with an agent, and show what was found. A check that does not hold ends the process with 1."""
    import mlflow  # with the rest seconds, which `--help` should not take

    from stateful_agent import evaluation
    from stateful_agent.server.loading import CannotLoad
    from stateful_agent.server.target import CannotServe
    from stateful_agent.settings import Settings

    judge = (args.judge or evaluation.judge_of(Settings().agent_model)) if args.judged else None
    try:
        found = evaluation.read_conversations(args.conversations or evaluation.DEFAULT)
        ask = evaluation.ask_of(str(args.target))
        tell(f"Playing {len(found.conversations)} conversations{f', judged by {judge}' if judge else ''} ...")
        run, verdicts = evaluation.evaluate(found, ask, args.seconds, judge)
    except (CannotLoad, CannotServe, ValueError, evaluation.Refused) as error:
        raise Failure(str(error)) from error
    for line in evaluation.summary(verdicts):
        print(line)
    store = mlflow.get_tracking_uri()
    ui = "" if store.startswith(("http", "databricks")) else f": mlflow ui --backend-store-uri {store}"
    print(f"\nAll answers are in MLflow, in the run {run}{ui}")
    if any(verdict.has_failed for verdict in verdicts):
        sys.exit(1)


def tell(words: str) -> None:
    """Show progress, at once also where the output is a file."""
    print(words, flush=True)


def show_call(function: str, **arguments: Any) -> None:
    """Show a call that a dry run does not make."""
    print(f"{function}(")
    for name, value in arguments.items():
        if value is not None:
            print(f"    {name}={value!r},")
    print(")")


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
