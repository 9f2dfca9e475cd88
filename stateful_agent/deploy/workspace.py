"""The Databricks workspace that is deployed to, through Databricks' own client."""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from stateful_agent.deploy.failure import Failure

NEEDS = "Deploying to Databricks needs a package: pip install 'stateful-agent[deploy]'"


def workspace() -> Any:
    """A client of the workspace that the environment, or a profile of Databricks' command line, names.

    Raises:
        Failure: none is named, or a package is missing.
    """
    if find_spec("databricks") is None or find_spec("databricks.sdk") is None:
        raise Failure(NEEDS)
    from databricks.sdk import WorkspaceClient  # seconds, which `--help` should not take

    try:
        return WorkspaceClient()
    except ValueError as error:
        first, _, _ = str(error).partition("\n")
        raise Failure(
            "No workspace is named: set DATABRICKS_HOST and DATABRICKS_TOKEN, or DATABRICKS_CONFIG_PROFILE "
            f"(databricks auth login makes a profile). {first}"
        ) from error


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Tells what the workspace refuses as a failure of `doing` something: `serving main.agents.trips`, say."""
    from databricks.sdk.errors import DatabricksError, PermissionDenied, Unauthenticated

    try:
        yield
    except (PermissionDenied, Unauthenticated) as error:
        raise Failure(f"You may not do this here: {doing}: {_sentence(error)}") from error
    except (DatabricksError, ValueError, OSError) as error:  # agents.deploy tells some things as a ValueError
        raise Failure(f"The workspace does not do this: {doing}: {_sentence(error)}") from error


def values_of(secrets: Mapping[str, str]) -> dict[str, str]:
    """The values of secrets, by the variables that have them.

    Raises:
        Failure: one is not there, or not to be read. Who deploys needs to read what the agent is to read.
    """
    found: dict[str, str] = {}
    if not secrets:
        return found
    client = workspace()
    for name, place in secrets.items():
        scope, _, key = place.partition("/")
        with refusals(f"reading the secret {place} for {name}"):
            found[name] = b64decode(client.secrets.get_secret(scope, key).value).decode()
    return found


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())[:1000] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
