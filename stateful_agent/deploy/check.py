"""The check of a logged model: it answers in other processes and another folder, as it will at an endpoint."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

from stateful_agent.deploy.configuration import SETTINGS_VARIABLES
from stateful_agent.deploy.failure import Failure

PROGRAM = Path(__file__).with_name("check_program.py")
SERVERS = Path(__file__).with_name("check_servers.py")


def check(model_uri: str, variables: Mapping[str, str] | None = None) -> None:
    """Let a logged model answer one turn, with nothing but its own code and the packages that its requirements name.

    The process that does so sees neither this one's `PYTHONPATH`, nor the user's own site-packages, nor the project's
    folder. It has this process's environment variables otherwise, or those that are given: a model's key is expected
    there.

    Raises:
        Failure: what is missing, or why the model does not answer.
        mlflow.MlflowException: there is no such model.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        _run(PROGRAM, [], sys.executable, _downloaded(model_uri), Path(elsewhere), _environment(variables))


def check_served(model_uri: str, tell: Callable[[str], None]) -> None:
    """Let a logged model answer in an environment that is made of its own requirements, in each way that it is served.

    That is: in one process and in a fork of it, behind MLflow's scoring server with more than one process, and behind
    MLflow's `AgentServer`, asked by several callers at once. Each step is told before it is done.

    Raises:
        Failure: what cannot be installed, or why the model does not answer.
        mlflow.MlflowException: there is no such model.
    """
    model = _downloaded(model_uri)
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = Path(elsewhere).resolve()
        environment = _environment(None)
        tell("Installing what its requirements name ...")
        python = _installed(model, folder / "environment")
        tell("Letting it answer alone, and in a fork ...")
        _run(PROGRAM, ["--fork"], str(python), model, folder, environment)
        for server, name in (("scoring", "MLflow's scoring server"), ("agent", "MLflow's AgentServer")):
            tell(f"Letting it answer behind {name} ...")
            _run(SERVERS, [server], str(python), model, folder, environment)


def check_source(folder: Path, variables: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Let the app that is written to a folder answer several callers, in an environment made of its requirements.

    It is run as its `app.yaml` says, with these variables, but for the database: it has an embedded one here, so that
    nothing is left behind in its own. Each step is told before it is done.

    Raises:
        Failure: what cannot be installed, or why it does not answer.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        place = Path(elsewhere).resolve()
        here = {name: value for name, value in variables.items() if not name.startswith(("DATABASE_", "LAKEBASE_"))}
        tell("Installing what its requirements name ...")
        python = _installed(folder, place / "environment")
        tell("Letting it answer here as app.yaml says, with a database of its own ...")
        environment = _environment(here | {"AGENT_DATA_DIR": str(place / "data")})
        _run(SERVERS, ["app"], str(python), folder.resolve(), place, environment)


def _downloaded(model_uri: str) -> Path:
    import mlflow  # seconds, which `--help` should not take

    return Path(mlflow.artifacts.download_artifacts(model_uri)).resolve()


def _environment(variables: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of the process that answers. Given variables take the place of all settings that are set here."""
    import mlflow

    base = dict(os.environ)
    if variables is not None:
        base = {name: value for name, value in base.items() if name not in SETTINGS_VARIABLES}
    return base | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()} | dict(variables or {})


def _installed(source: Path, folder: Path) -> Path:
    """The Python of a new environment that has what the requirements of a model or an app name, and nothing else."""
    uv = _uv()
    venv.create(folder, with_pip=uv is None)
    python = folder / "bin" / "python"
    pip = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    command = [*pip, "--quiet", "-r", str(source / "requirements.txt")]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = " ".join((ended.stderr or ended.stdout).split())
        raise Failure(f"The requirements cannot be installed: {said[-1000:]}")
    return python


def _uv() -> str | None:
    """The installer that MLflow prefers as well, if it is there."""
    return shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def _run(
    program: Path, arguments: list[str], python: str, model: Path, folder: Path, environment: Mapping[str, str]
) -> None:
    """Run a program of the check on a model, in a folder. What it finds is in a report of its own.

    Raises:
        Failure: what the program found, or that it ended without a word.
    """
    report = folder.resolve() / "report.json"
    report.unlink(missing_ok=True)
    # -I: no PYTHON* variables, no user site, no current folder. -B: the logged model stays as it is.
    command = [python, "-I", "-B", str(program), str(model), str(report), *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if not report.is_file():
        last = (ended.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise Failure(f"It ended its process (status {ended.returncode}): {last}")
    if problem := json.loads(report.read_text()):
        raise Failure(problem)
