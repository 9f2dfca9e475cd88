"""The agent that a Python file or a logged model holds."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.errors import AgentError


class CannotLoad(Exception):
    """Why there is no agent, in one line."""


def load_agent(target: Path) -> LangGraphResponsesAgent:
    """The agent that a Python file or the folder of a logged model holds.

    Raises:
        CannotLoad: there is none, or something is missing that it needs.
        Exception: whatever else its code raises.
    """
    return agent_in_file(target) if target.suffix == ".py" else agent_in_model(target)


def agent_in_file(file: Path) -> LangGraphResponsesAgent:
    """The agent that a Python file holds: its `AGENT`, the one it gives to `mlflow.models.set_model`, or its only one.

    The file is imported under its own name, with its folder first on `sys.path`, as `python file.py` has it.
    """
    before = _given_to_set_model()
    module = _imported(file)
    given = _given_to_set_model()
    held = {name: value for name, value in vars(module).items() if isinstance(value, LangGraphResponsesAgent)}
    chosen = [held["AGENT"]] if "AGENT" in held else []
    if given is not before and isinstance(given, LangGraphResponsesAgent):
        chosen.append(given)
    agents = {id(agent): agent for agent in chosen or held.values()}
    if len(agents) > 1:
        raise CannotLoad(f"{file.name} holds several agents: name the one to serve AGENT, and give it to set_model.")
    if not agents:
        raise CannotLoad(f"{file.name} holds no agent: it needs AGENT = LangGraphResponsesAgent(...).")
    return agents.popitem()[1]


def agent_in_model(folder: Path) -> LangGraphResponsesAgent:
    """The agent that was logged as an MLflow model."""
    try:
        agent = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True).get_raw_model()
    except NotImplementedError:  # MLflow's answer for a model that is a function
        agent = None
    except (MlflowException, ImportError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if line := _explanation(cause, folder):
            raise CannotLoad(line) from error
        raise
    if not isinstance(agent, LangGraphResponsesAgent):
        raise CannotLoad("The model holds no LangGraphResponsesAgent.")
    return agent


def _imported(file: Path) -> ModuleType:
    name, folder = file.stem, str(file.parent)
    if name in sys.modules or name in sys.stdlib_module_names:
        raise CannotLoad(f"{file.name} hides Python's own module {name}, or one that is in use: rename it.")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if line := _explanation(error, file.parent):
            raise CannotLoad(line) from error
        raise
    return module


def _explanation(error: Exception, folder: Path) -> str | None:
    """The error in one line, if that tells its reader enough. `folder` holds the user's code."""
    if isinstance(error, AgentError | ValidationError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}."
    if isinstance(error, ImportError):
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename, folder)]
        return f"{frames[-1].filename}, line {frames[-1].lineno}: {error}." if frames else f"{error}."
    return None


def _is_users(filename: str, folder: Path) -> bool:
    return Path(filename).is_relative_to(folder) and "site-packages" not in Path(filename).parts


def _given_to_set_model() -> Any:
    return getattr(mlflow.models.model, "__mlflow_model__", None)
