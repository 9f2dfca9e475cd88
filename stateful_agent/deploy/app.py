"""Serving an agent as a Databricks App, through Databricks' own client, and serving it no more."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateful_agent.deploy.app_source import DATABASE, DESCRIPTION, DatabricksApp, branch_of
from stateful_agent.deploy.database import set_up_database
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.progress import State, wait_until_ready
from stateful_agent.deploy.workspace import refusals, workspace
from stateful_agent.settings import Settings

if TYPE_CHECKING:
    from databricks.sdk.service.apps import AppResource

PREFIX = "apps/"
"""What the name of an app begins with where it could be an endpoint's, as in Databricks' OpenAI client."""

FOLDER = "stateful-agent"
"""Where the sources of apps are kept, in the home of who deploys."""

UPLOADS = 8
"""Files that are uploaded at once."""


def app_of(name: str) -> str | None:
    """The app that a name is of, `None` if it is not one of an app."""
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else None


def database_of(settings: Settings) -> str | None:
    """The database of an autoscaling Lakebase that the settings name, as the workspace names it; `None` for others.

    Raises:
        Failure: there is none.
    """
    branch = branch_of(settings)
    if branch is None:
        return None
    with refusals(f"using the Lakebase {branch}"):
        for found in workspace().postgres.list_databases(branch):
            if found.status and found.status.postgres_database == DATABASE:
                return str(found.name)
    raise Failure(f"The Lakebase {branch} has no database {DATABASE}.")


def create_app(app: DatabricksApp, resources: "list[AppResource]", tell: Callable[[str], None], minutes: float) -> None:
    """Create an app, or give it these resources; start it where it is stopped, and wait until it can be deployed to.

    Raises:
        Failure: the workspace refuses it, the app is another one, or it does not start within these minutes.
    """
    from databricks.sdk.service.apps import App, ComputeState

    client = workspace()
    described = App(name=app.name, description=DESCRIPTION, resources=resources, usage_policy_id=app.budget_policy)
    with refusals(f"creating the app {app.name}"):
        existing = existing_app(client, app.name)
        if existing is None:
            tell(f"Creating the app {app.name} ...")
            client.apps.create(described)
        else:
            tell(f"Changing the app {app.name} ...")
            client.apps.update(app.name, described)
            if existing.compute_status and existing.compute_status.state is ComputeState.STOPPED:
                client.apps.start(app.name)

    def look() -> State:
        with refusals(f"looking at the app {app.name}"):
            found = client.apps.get(app.name)
        state = found.compute_status and found.compute_status.state
        words = _words("compute", found.compute_status)
        if found.pending_deployment:  # of a run that was cut off: another is refused meanwhile
            return State("another deployment is under way")
        return State(words, is_ready=state is ComputeState.ACTIVE, has_failed=state is ComputeState.ERROR)

    wait_until_ready(PREFIX + app.name, look, tell, minutes)


def let_into_database(app: DatabricksApp) -> str:
    """Set up a Lakebase as who deploys, and let the app's own identity read and write rows there.

    Returns what was done, in words. Where it is another's, that is left to its owner: then the app tells whether it can
    work.
    """
    settings = app.configuration.settings()
    if settings.database_url:
        return "The tables are those of DATABASE_URL's role."
    with refusals(f"looking at the app {app.name}"):
        role = str(workspace().apps.get(app.name).service_principal_client_id)
    try:
        return set_up_database(role, settings=settings)
    except Failure as failure:
        return f"{failure} If the app cannot use the database, let the owner of its tables set it up for {role}."


def upload_and_run(name: str, folder: Path, files: list[Path], tell: Callable[[str], None], minutes: float) -> None:
    """Upload an app's files, let it run them, and wait until it does.

    Raises:
        Failure: the workspace refuses it, or it does not come up within these minutes.
    """
    from databricks.sdk.service.apps import AppDeployment, AppDeploymentMode, AppDeploymentState, ApplicationState

    client = workspace()
    with refusals(f"uploading the app {name}"):
        path = source_path(name)
        tell(f"Uploading {len(files)} files to {path} ...")
        _upload(client, path, folder, files)
    with refusals(f"deploying the app {name}"):
        wanted = AppDeployment(source_code_path=path, mode=AppDeploymentMode.SNAPSHOT)
        deployment = client.apps.deploy(name, wanted).response.deployment_id

    def look() -> State:
        with refusals(f"looking at the app {name}"):
            status = client.apps.get_deployment(name, deployment).status
            app = client.apps.get(name)
        if status is None or status.state is not AppDeploymentState.SUCCEEDED:
            failed = status is not None and status.state is not AppDeploymentState.IN_PROGRESS
            return State(_words("deployment", status), has_failed=failed)
        state = app.app_status and app.app_status.state
        running, crashed = state is ApplicationState.RUNNING, state is ApplicationState.CRASHED
        return State(_words("app", app.app_status), is_ready=running, has_failed=crashed)

    wait_until_ready(PREFIX + name, look, tell, minutes)


def app_status(name: str) -> Iterator[str]:
    """What an app runs and may use, in lines.

    Raises:
        Failure: there is no such app.
    """
    with refusals(f"looking at the app {name}"):
        app = workspace().apps.get(name)
    yield f"{PREFIX}{name}: {_words('app', app.app_status)}, {app.url}"
    yield f"  {_words('compute', app.compute_status)}, as {app.service_principal_client_id}"
    for title, deployment in (("", app.active_deployment), ("next: ", app.pending_deployment)):
        if deployment:
            yield f"  {title}{deployment.source_code_path}: {_words('deployment', deployment.status)}"
    for resource in app.resources or []:
        described = {key: value for key, value in resource.as_dict().items() if key not in ("name", "description")}
        yield f"    {resource.name}: {described}"


def app_logs(name: str) -> Iterator[str]:
    """What the workspace says of an app's deployments, the newest first, and where its own log is.

    Raises:
        Failure: there is no such app.
    """
    client = workspace()
    with refusals(f"reading the logs of {PREFIX}{name}"):
        app = client.apps.get(name)
        for deployment in client.apps.list_deployments(name):
            yield f"--- {deployment.create_time or ''} {_words('deployment', deployment.status)}"
    yield f"Its own log, for a browser: {app.url}/logz"


def delete_app(name: str) -> str:
    """Delete an app with its sources. Conversations stay in the database. Returns what was done, in words.

    Raises:
        Failure: the workspace refuses it, or the app is another one.
    """
    client = workspace()
    with refusals(f"deleting the app {name}"):
        app = existing_app(client, name)
        if app is None:
            return f"{PREFIX}{name} is not served."
        if app.active_deployment is None and app.description != DESCRIPTION:
            raise Failure(f"The app {name} was not made by deploy --app: delete it in the workspace.")
        client.apps.delete(name)
        _delete_source(client, source_path(name))
    return f"{PREFIX}{name} is not served any more. Its conversations are still in the database."


def existing_app(client: Any, name: str) -> Any:
    """The app of that name, `None` if there is none.

    Raises:
        Failure: it runs something else than an agent that was deployed so.
    """
    from databricks.sdk.errors import NotFound

    try:
        app = client.apps.get(name)
    except NotFound:
        return None
    active = app.active_deployment
    if active and not str(active.source_code_path).endswith(f"/{FOLDER}/{name}"):
        raise Failure(f"The app {name} runs {active.source_code_path}: name another one.")
    return app


def source_path(name: str) -> str:
    """Where in the workspace an app's files are, of whoever deploys."""
    return f"/Workspace/Users/{workspace().current_user.me().user_name}/{FOLDER}/{name}"


def _upload(client: Any, path: str, folder: Path, files: list[Path]) -> None:
    from databricks.sdk.service.workspace import ImportFormat

    _delete_source(client, path)
    for parent in sorted({file.parent.as_posix() for file in files}):
        client.workspace.mkdirs(f"{path}/{parent}".removesuffix("/."))

    def upload(file: Path) -> None:
        target, content = f"{path}/{file.as_posix()}", (folder / file).read_bytes()
        client.workspace.upload(target, content, format=ImportFormat.RAW, overwrite=True)

    with ThreadPoolExecutor(UPLOADS) as uploads:
        list(uploads.map(upload, files))


def _delete_source(client: Any, path: str) -> None:
    from databricks.sdk.errors import NotFound

    with suppress(NotFound):
        client.workspace.delete(path, recursive=True)


def _words(what: str, status: Any) -> str:
    """A status of the SDK's in words, with its message."""
    state = status.state.value.replace("_", " ").lower() if status and status.state else "unknown"
    return f"{what} {state}" + (f": {status.message}" if status and status.message else "")
