"""The program that checks a logged model: python -I check_program.py FOLDER_OF_THE_MODEL REPORT_FILE [--fork].

It imports nothing of this library, so that the model's own copy is what runs. Packages that are installed here, but
that the model's requirements do not bring, are hidden: where the model is served they will not be there.
"""

import importlib.abc
import importlib.util
import json
import logging
import os
import site
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

TURN = {"input": [{"role": "user", "content": "What can you do?"}], "store": False}
"""`store: false` keeps the check away from the database."""

NOTHING_ASKED: dict[str, Any] = {"input": [], "store": False}
"""A request that the agent refuses without asking a model."""

FORK_SECONDS = 120

COME_WITH_PYTHON = {"pip", "setuptools", "wheel"}


class Hidden(importlib.abc.MetaPathFinder):
    """Hides the modules of packages that are not required, as if these were not installed."""

    def __init__(self, packages: dict[str, str]) -> None:
        """`packages` are the names of the packages by their modules."""
        self.packages = packages

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse a hidden module, and leave all others to the next finder."""
        if name in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Logged(logging.Handler):
    """Keeps the last error that was logged with its traceback."""

    error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.exc_info and record.exc_info[1]:
            self.error = record.exc_info[1]


def problem_of(model: Path, *, fork: bool = False) -> str | None:
    """What keeps a logged model from answering elsewhere, in one line; `None` if nothing does.

    With `fork`, it answers in a process that is forked off as well, as some servers do once they have loaded a model.
    """
    brought = {path.stem for path in (model / "code").iterdir()}
    uncovered = not_required((model / "requirements.txt").read_text().splitlines())
    hidden = Hidden({name: package for name, package in uncovered.items() if name not in brought})
    sys.meta_path.insert(0, hidden)
    logged = Logged()
    logging.getLogger().addHandler(logged)
    before = set(sys.modules)
    try:
        import mlflow

        loaded = mlflow.pyfunc.load_model(str(model), suppress_warnings=True)
        events = list(loaded.predict_stream(TURN))
        problem = stream_problem(events[-1] if events else None) or predict_problem(loaded)
        if fork and not problem:
            problem = fork_problem(loaded)
        if problem and logged.error:  # of which the model's users only learn that its log has it
            problem = explanation(logged.error, model, hidden.packages)
    except Exception as error:
        problem = explanation(error, model, hidden.packages)
    return foreign_module(model, set(sys.modules) - before) or problem


def stream_problem(last: dict[str, Any] | None) -> str | None:
    """Why a stream that ended with this event did not answer."""
    if last and last["type"] == "response.completed":
        return None if last["response"]["output"] else "The model's answer is empty."
    if last and last["type"] == "error":
        return f"The model does not answer: {last.get('message')}"
    return f"The model's stream did not complete: it ended with {last['type'] if last else 'no event'}."


def predict_problem(loaded: Any) -> str | None:
    """Why `predict` does not reach the agent. A refusal shows that it does, and costs no second call of a model."""
    try:
        loaded.predict(NOTHING_ASKED)
    except Exception as error:
        if getattr(error, "status", 500) >= 500:
            raise
    return None


def fork_problem(loaded: Any) -> str | None:
    """Why a model that has answered here does not answer in a fork of this process."""
    child = os.fork()
    if child == 0:
        try:
            answered = bool(loaded.predict(TURN)["output"])
            os._exit(0 if answered else 1)
        finally:  # whatever it raised
            os._exit(1)
    until = time.monotonic() + FORK_SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return None if status == 0 else "The model does not answer in a forked process: a server that forks fails."
        time.sleep(0.05)
    os.kill(child, 9)
    return f"The model does not answer in a forked process within {FORK_SECONDS} seconds."


def explanation(error: BaseException, model: Path, hidden: dict[str, str]) -> str:
    """The error that a model met, as one line that names what is missing or who raised it."""
    errors = list(chain(error))
    for missing in errors:
        if isinstance(missing, ModuleNotFoundError) and missing.name:
            top = missing.name.partition(".")[0]
            if top in hidden:
                return f"{top} is not among the model's requirements: add {hidden[top]} to the requirements file."
            if importlib.util.find_spec(top) is None or (model / "code" / top).exists():
                return (
                    f"{missing.name} is not in the model{importer(missing, model)}: modules and packages beside the "
                    "agent's file that it imports go along, and packages that the requirements name."
                )
    meant_for_people = (one for one in errors if type(one).__module__ == "stateful_agent.errors")
    reason = next((one for one in meant_for_people if type(one).__name__ != "AgentError"), None)
    if reason:
        return f"The model does not answer: {' '.join(str(reason).split())}"[:1000]
    message = " ".join(str(errors[-1]).split())
    return f"The model does not answer: {type(errors[-1]).__name__}: {message}"[:1000] + importer(errors[-1], model)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from, the last one first. One may have been raised from itself."""
    seen: list[BaseException] = []
    while error and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def importer(error: BaseException, model: Path) -> str:
    """The line of the user's code that met an error, as ` (my_agent.py, line 3)`."""
    found, trace = "", error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(model) and "stateful_agent" not in file.relative_to(model).parts:
            found = f" ({file.relative_to(model).as_posix().removeprefix('code/')}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def foreign_module(model: Path, names: set[str]) -> str | None:
    """The first module that came neither from the model, nor from Python, nor from an installed package."""
    paths = sysconfig.get_paths()
    installed = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")] + site.getsitepackages()
    known = [model, *(Path(os.path.realpath(path)) for path in installed)]
    own = sys.modules["__main__"].__file__
    for name in sorted(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if not file or not os.path.isabs(file) or file == own:
            continue
        if not any(Path(os.path.realpath(file)).is_relative_to(path) for path in known):
            return f"{name} is not in the model: it came from {file}, which the model will not find elsewhere."
    return None


def not_required(lines: list[str]) -> dict[str, str]:
    """The modules that are installed here and that requirements do not bring, each with the package that has it."""
    required = closure(lines)
    if required is None:
        return {}
    modules: dict[str, str] = {}
    for module, owners in packages_distributions().items():
        names = {canonicalize_name(owner) for owner in owners}
        if not names & (required | COME_WITH_PYTHON) and module not in sys.stdlib_module_names:
            modules[module] = owners[0]
    return modules


def closure(lines: list[str]) -> set[str] | None:
    """The packages that requirements bring, with all that these need; `None` if one of them cannot be known."""
    waiting: list[tuple[str, str]] = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith(("#", "-c", "--")):
            continue
        requirement = parsed(line)
        if requirement is None:
            return None
        waiting.extend(needed(requirement, ""))
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for text in requires:
            waiting.extend(needed(Requirement(text), extra))
    return {name for name, _ in seen}


def needed(requirement: Requirement, extra: str) -> Iterator[tuple[str, str]]:
    """A requirement as names with extras, nothing if its marker does not hold here."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
        for name in ("", *requirement.extras):
            yield canonicalize_name(requirement.name), canonicalize_name(name)


def parsed(line: str) -> Requirement | None:
    """A line of a requirements file. One that is an address alone is looked for among what was installed from one."""
    text = line.split(" --")[0].split(" #")[0].strip()
    try:
        return Requirement(text)
    except InvalidRequirement:
        found = next((one for one in distributions() if came_from(one, text)), None)
        return Requirement(found.name) if found else None


def came_from(installed: Distribution, address: str) -> bool:
    """Whether a package was installed from an address, `git+` and `@main` aside."""
    url = json.loads(installed.read_text("direct_url.json") or "{}").get("url")
    return bool(url) and url in address


if __name__ == "__main__":
    found = problem_of(Path(sys.argv[1]), fork="--fork" in sys.argv)
    Path(sys.argv[2]).write_text(json.dumps(found))
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads that the model started
