"""The code of a project: the modules and packages beside the agent's file that it imports, found without running it.

Of a module its file goes along, of a package its whole folder with its data. What is installed does not: that is for
the requirements.
"""

import ast
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from stateful_agent.deploy.failure import Failure

NOT_CODE = {"__pycache__", "node_modules"}
TESTS = {"tests", "test"}


def copy_code(agent_file: Path, folder: Path) -> None:
    """Copy into a folder what an agent runs on: its file, what that imports from beside it, and this library.

    Raises:
        Failure: a file cannot be read, or the agent's is not Python.
    """
    try:
        for file in code_files(agent_file):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(agent_file.parent / file, folder / file)
    except OSError as error:
        raise Failure(f"{error.filename} cannot be read: {error.strerror}.") from error
    library = Path(__file__).parents[1]
    shutil.copytree(library, folder / library.name, ignore=shutil.ignore_patterns("__pycache__"))


def code_files(agent_file: Path) -> list[Path]:
    """The same as `project_files`.

    Raises:
        Failure: the same, in one line.
    """
    try:
        return project_files(agent_file)
    except SyntaxError as error:
        raise Failure(f"{agent_file.name}, line {error.lineno}: {error.msg}.") from error
    except OSError as error:
        raise Failure(f"{error.filename} cannot be read: {error.strerror}.") from error


def project_files(agent_file: Path) -> list[Path]:
    """The files that an agent's file needs, itself first, each relative to its folder.

    Imports are followed wherever they stand, also within functions, and relative ones too. Left out are hidden files
    (`.env`, `.git`), virtual environments, and tests that nothing imports.

    Raises:
        SyntaxError: the agent's file is not Python.
        OSError: a file cannot be read.
    """
    folder = agent_file.parent.resolve()
    first = Path(agent_file.name)
    ast.parse((folder / first).read_bytes(), filename=agent_file.name)
    found: dict[Path, None] = {}
    waiting = [first]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found[file] = None
        if file.suffix == ".py":
            for name in sorted(_imported_names(folder, file)):
                waiting.extend(_files_of(folder, name))
    return list(found)


def _imported_names(folder: Path, file: Path) -> set[str]:
    """The full names of all that a file may import: of `from a import b`, both `a` and `a.b`."""
    package = list(file.parent.parts)
    try:
        tree = ast.parse((folder / file).read_bytes())
    except (SyntaxError, ValueError):
        return set()  # a template among a package's data, say; whatever imports it fails in the check
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                start = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*start, *([node.module] if node.module else [])])
                names.add(module)
                names.update(f"{module}.{alias.name}".lstrip(".") for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(".".join([*package, name.lstrip(".")]) if name.startswith(".") else name)
    return names - {""}


def _files_of(folder: Path, name: str) -> Iterator[Path]:
    """The files to take along for an imported name, none if it is not of this folder."""
    parts = name.split(".")
    top = Path(parts[0])
    if parts[0] == "stateful_agent":  # goes along from where it is installed
        return
    if (folder / top).is_dir() and (_is_package(folder / top) or not (folder / f"{top}.py").is_file()):
        if _is_package(folder / top) or not _is_installed(parts[0], folder):
            yield from (file.relative_to(folder) for file in _contents(folder / top))
            yield from _module_within(folder, parts)
    elif (folder / f"{top}.py").is_file():
        yield Path(f"{top}.py")


def _module_within(folder: Path, parts: list[str]) -> Iterator[Path]:
    """The module itself and the packages it is in: a test that is imported goes along, though other tests do not."""
    for length in range(2, len(parts) + 1):
        path = Path(*parts[:length])
        yield from (file for file in (path / "__init__.py", path.with_suffix(".py")) if (folder / file).is_file())


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def _is_installed(name: str, folder: Path) -> bool:
    """Whether an installed module wins over a folder of its name that has no `__init__.py`, as Python has it."""
    if name in sys.stdlib_module_names:
        return True
    elsewhere = [path for path in sys.path if path and Path(path).resolve() != folder]
    spec = PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None


def _contents(package: Path) -> Iterator[Path]:
    """All files of a package, but for what is no part of it."""
    for parent, folders, files in os.walk(package):
        folders[:] = sorted(name for name in folders if _belongs(Path(parent, name)))
        yield from (Path(parent, name) for name in sorted(files) if not _is_private(name) and not name.endswith(".pyc"))


def _belongs(folder: Path) -> bool:
    return not _is_private(folder.name) and folder.name not in NOT_CODE | TESTS and not (folder / "pyvenv.cfg").exists()


def _is_private(name: str) -> bool:
    return name.startswith(".") or name.endswith(".env")
