"""What a server is started for: the Python file or the logged model, found on disk before any worker starts."""

import os
from pathlib import Path

import stateful_agent


class CannotServe(Exception):
    """Why there is nothing to serve, in one line."""


def locate(target: str) -> Path:
    """The Python file, or the folder of the logged model, that `target` names. A model elsewhere is downloaded.

    Raises:
        CannotServe: there is none.
    """
    path = Path(target)
    if target.endswith(".py"):
        if not path.is_file():
            raise CannotServe(f"There is no file {target}.")
        return path.resolve()
    if not path.is_dir():
        path = _downloaded(target)
    if not (path / "MLmodel").is_file():
        raise CannotServe(f"{target} is not a logged model: it has no file MLmodel.")
    return path.resolve()


def other_code(target: Path) -> Path | None:
    """The folder of the model's own code, if that holds another copy of this package than the one that runs.

    Raises:
        CannotServe: the model's copy has no server.
    """
    code = target / "code"
    copy = code / "stateful_agent"
    if not copy.is_dir() or copy.resolve() == Path(stateful_agent.__file__).resolve().parent:
        return None
    if not (copy / "server" / "processes.py").is_file():
        raise CannotServe(f"{target} was logged with an older version of stateful_agent: log it again to serve it.")
    return code


def _downloaded(uri: str) -> Path:
    if ":" not in uri:
        raise CannotServe(f"There is no {uri}: name a Python file that holds an agent, or a logged model.")
    print(f"Looking for {uri} ...", flush=True)
    # Its progress bar would be all that is left on the screen of a download that failed.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # seconds of imports, which a file or a folder need not wait for

    try:
        return Path(mlflow.artifacts.download_artifacts(uri))
    except Exception as error:  # of whichever store the URI names
        raise CannotServe(f"The model {uri} cannot be downloaded: {error}") from error
