"""Logging an agent as an MLflow model, with the code and the requirements that it stands on."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stateful_agent.deploy.failure import Failure, one_line
from stateful_agent.deploy.project import code_files, copy_code
from stateful_agent.deploy.requirements import constraints_of, requirements_of
from stateful_agent.deploy.resources import resources
from stateful_agent.settings import Settings

INPUT_EXAMPLE = {"input": [{"role": "user", "content": "What can you do?"}], "store": False}
"""What the logged model shows as an example of a request."""


def log(agent_file: Path, requirements: Path | None = None) -> str:
    """Log the agent that a file holds, as an MLflow model. Returns the model's URI.

    What the file imports from beside it goes along. `requirements` is the project's own requirements file, by default
    the `requirements.txt` beside the agent, if there is one; what the settings need is added, such as the package of
    the model's provider. Notes on what was left out of it are printed. No secret of the environment is logged: the
    model reads its settings where it is served. No model is asked.

    Raises:
        Failure: the file holds no agent, or something that it needs is missing.
        pydantic.ValidationError: a setting is wrong.
        mlflow.MlflowException: MLflow's store does not take it.
    """
    agent_file = agent_file.resolve()
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder:
        code, constraints = Path(folder).resolve() / "code", Path(folder) / "constraints.txt"
        code.mkdir()
        copy_code(agent_file, code)
        lines, notes = requirements_of(agent_file, requirements, settings)
        for note in notes:
            print(note, flush=True)
        if constrained := constraints_of(lines):
            constraints.write_text("\n".join(constrained))
            lines.append(f"-c {constraints}")
        import mlflow  # seconds, which neither `--help` nor a mistake should take

        with _imported_from(code), _no_model_asked():
            try:
                info = mlflow.pyfunc.log_model(
                    name="stateful-agent",
                    python_model=str(code / agent_file.name),
                    code_paths=[str(path) for path in sorted(code.iterdir())],
                    pip_requirements=lines,
                    input_example=INPUT_EXAMPLE,
                    resources=resources(settings),
                )
            except mlflow.MlflowException as error:
                if error.__cause__ is None:
                    raise
                raise Failure(f"{agent_file.name} cannot be logged: {_reason(error.__cause__, code)}") from error
        _forget_paths(info.model_uri, info.model_id, agent_file)
    return str(info.model_uri)


def planned(agent_file: Path, requirements: Path | None = None) -> dict[str, Any]:
    """What `log` would log: the project's files and the library, requirements, and resources of the workspace.

    Raises:
        Failure: something that it needs cannot be read.
        pydantic.ValidationError: a setting is wrong.
    """
    agent_file = agent_file.resolve()
    settings = Settings()
    return {
        "python_model": agent_file.name,
        "code_paths": [*map(str, code_files(agent_file)), "stateful_agent"],
        "pip_requirements": requirements_of(agent_file, requirements, settings)[0],
        "resources": [resource.to_dict() for resource in resources(settings)],
    }


def write_path(model_uri: str, file: Path) -> None:
    """Write the folder of a logged model to a file, whose own folder is made if need be."""
    import mlflow

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(mlflow.artifacts.download_artifacts(model_uri))


@contextmanager
def _imported_from(folder: Path) -> Iterator[None]:
    """What is imported comes from this folder if it is there, and is forgotten afterwards."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(folder) + os.sep):
                del sys.modules[name]


@contextmanager
def _no_model_asked() -> Iterator[None]:
    """MLflow lets a model answer its example twice while it logs it. Here it gets an empty answer; `check` asks."""
    from mlflow.types.responses import ResponsesAgentResponse

    from stateful_agent.agent import LangGraphResponsesAgent

    def answer_nothing(self: Any, request: Any) -> Any:
        return ResponsesAgentResponse(output=[])

    predict = LangGraphResponsesAgent.predict
    LangGraphResponsesAgent.predict = answer_nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        LangGraphResponsesAgent.predict = predict  # type: ignore[method-assign]


def _reason(error: BaseException, code: Path) -> str:
    """Why the agent's file does not run, in one line, with the line of the project's code that failed."""
    where, trace = "", error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(code) and not file.is_relative_to(code / "stateful_agent"):
            where = f" ({file.relative_to(code)}, line {trace.tb_lineno})"
        trace = trace.tb_next
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"{error.name} is not in the model{where}: modules and packages beside the agent's file that it imports go "
            "along, and packages that the requirements name."
        )
    return one_line(error) + where


def _forget_paths(model_uri: str, model_id: str, agent_file: Path) -> None:
    """MLflow notes where on this machine the agent's file and a local store are, and needs neither."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        mlmodel = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=folder)) / "MLmodel"
        model = mlflow.models.Model.load(str(mlmodel))
        model.flavors["python_function"]["model_code_path"] = agent_file.name
        if str(model.artifact_path).startswith(("/", "file:")):
            model.artifact_path = None
        model.save(str(mlmodel))
        mlflow.MlflowClient().log_model_artifact(model_id, str(mlmodel))
