"""The check of a logged model: it answers in another process and another folder, as it will at an endpoint."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from stateful_agent.deploy.failure import Failure

PROGRAM = Path(__file__).with_name("check_program.py")


def check(model_uri: str) -> None:
    """Let a logged model answer one turn, with nothing but its own code and the packages that its requirements name.

    The process that does so sees neither this one's `PYTHONPATH`, nor the user's own site-packages, nor the project's
    folder. It has this process's environment variables otherwise: a model's key is expected there.

    Raises:
        Failure: what is missing, or why the model does not answer.
        mlflow.MlflowException: there is no such model.
    """
    import mlflow  # seconds, which `--help` should not take

    model = Path(mlflow.artifacts.download_artifacts(model_uri)).resolve()
    environment = os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    with tempfile.TemporaryDirectory() as elsewhere:
        report = Path(elsewhere).resolve() / "report.json"
        # -I: no PYTHON* variables, no user site, no current folder. -B: the logged model stays as it is.
        command = [sys.executable, "-I", "-B", str(PROGRAM), str(model), str(report)]
        ended = subprocess.run(
            command,
            cwd=elsewhere,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.is_file():
            last = (ended.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise Failure(f"The logged model ended its process (status {ended.returncode}): {last}")
        if problem := json.loads(report.read_text()):
            raise Failure(problem)
