from pathlib import Path

import pytest

from stateful_agent.deploy.project import project_files


def files(folder: Path, contents: dict[str, str]) -> set[str]:
    """The files of a project with these contents, which its `agent.py` needs."""
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {file.as_posix() for file in project_files(folder / "agent.py")}


def test_modules_and_packages_that_are_imported_go_along(tmp_path: Path) -> None:
    assert files(
        tmp_path,
        {
            "agent.py": "import os, json\nimport helpers\ndef graph():\n    from package.graph import build",
            "helpers.py": "import more.deep as deep",
            "more/deep.py": "",
            "package/__init__.py": "",
            "package/graph.py": "from .. import ignored\nfrom .sub import thing\nfrom . import other",
            "package/sub/thing.py": "import beside",
            "package/other.py": "",
            "package/prompt.txt": "",
            "beside.py": "",
            "unused.py": "",
            "notes.txt": "",
            "unused_package/__init__.py": "",
        },
    ) == {
        "agent.py",
        "helpers.py",
        "more/deep.py",
        "package/__init__.py",
        "package/graph.py",
        "package/sub/thing.py",
        "package/other.py",
        "package/prompt.txt",
        "beside.py",
    }


def test_what_is_private_or_no_code_stays(tmp_path: Path) -> None:
    assert files(
        tmp_path,
        {
            "agent.py": "import package",
            ".env": "",
            "package/__init__.py": "",
            "package/.env": "",
            "package/production.env": "",
            "package/.git/config": "",
            "package/venv/pyvenv.cfg": "",
            "package/venv/lib/module.py": "",
            "package/__pycache__/a.cpython-311.pyc": "",
            "package/tests/test_it.py": "",
            "tests/test_agent.py": "",
        },
    ) == {"agent.py", "package/__init__.py"}


def test_a_test_that_is_imported_goes_along(tmp_path: Path) -> None:
    contents = {"agent.py": "from tests.fakes import fake", "tests/__init__.py": "", "tests/fakes.py": ""}
    assert files(tmp_path, contents) == {"agent.py", "tests/__init__.py", "tests/fakes.py"}
    contents = {
        "agent.py": "import package.tests.fakes",
        "package/__init__.py": "",
        "package/tests/fakes.py": "",
        "package/tests/test_it.py": "",
    }
    assert files(tmp_path, contents) == {"agent.py", "package/__init__.py", "package/tests/fakes.py"}


def test_an_installed_package_wins_over_a_mere_folder(tmp_path: Path) -> None:
    contents = {"agent.py": "import mlflow, json, stateful_agent", "mlflow/x.txt": "", "json/x.txt": ""}
    assert files(tmp_path, contents | {"stateful_agent/__init__.py": ""}) == {"agent.py"}
    assert files(tmp_path, {"mlflow.py": ""}) == {"agent.py"} | {"mlflow.py"}


@pytest.mark.parametrize(
    "line",
    [
        "__import__('helpers')",
        "import importlib; importlib.import_module('helpers')",
        "try:\n    import helpers\nexcept ImportError: pass",
        "from helpers import something",
        "from helpers import *",
    ],
)
def test_ways_to_import(tmp_path: Path, line: str) -> None:
    assert files(tmp_path, {"agent.py": line, "helpers.py": "import agent"}) == {"agent.py", "helpers.py"}


def test_a_file_that_is_not_python(tmp_path: Path) -> None:
    assert files(tmp_path, {"agent.py": "import helpers", "helpers.py": "{{ a template }"}) == {
        "agent.py",
        "helpers.py",
    }
    with pytest.raises(SyntaxError):
        files(tmp_path, {"agent.py": "x = = 3"})
