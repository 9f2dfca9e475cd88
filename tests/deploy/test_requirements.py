import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stateful_agent.deploy import Failure
from stateful_agent.deploy import requirements as module
from stateful_agent.deploy.requirements import extras_for, model_requirements
from stateful_agent.settings import Settings

DECLARED = [
    "mlflow>=3",
    "psycopg[binary]>=3",
    "mcp<2; extra == 'databricks'",
    "langchain-openai>=1; extra == 'openai'",
    "langchain-anthropic>=1; extra == 'anthropic'",
    "stateful-agent[databricks,openai]; extra == 'all'",
    "pywin32; sys_platform == 'win32'",
]
OWN = ["mlflow==0.1", "psycopg[binary]==0.1"]


class Installed:
    requires: Sequence[str] = DECLARED


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "distribution", lambda name: Installed())
    monkeypatch.setattr(module, "version", lambda name: "0.1")


def requirements(folder: Path, text: str) -> list[str]:
    (folder / "requirements.txt").write_text(text)
    return model_requirements(folder / "requirements.txt")[0]


def test_the_projects_own_come_first_and_what_the_library_needs_is_added(tmp_path: Path) -> None:
    assert requirements(tmp_path, "numpy>=2  # for sums\n\n# nothing\npandas\n") == ["numpy>=2", "pandas", *OWN]
    assert requirements(tmp_path, "MLflow==3.17.2\nPsycopg>=3.1") == ["MLflow==3.17.2", "Psycopg>=3.1"]
    assert requirements(tmp_path, "") == OWN


@pytest.mark.parametrize(
    "line",
    [
        "stateful-agent",
        "stateful_agent==0.2.0",
        "Stateful.Agent @ git+https://example.com/x.git",
        "git+https://example.com/someone/stateful-agent.git@main",
        "-e ../stateful_agent",
        "./wheels/stateful_agent-0.2.0-py3-none-any.whl",
        "/somewhere/stateful-agent/",
    ],
)
def test_the_library_itself_is_not_required(tmp_path: Path, line: str) -> None:
    assert requirements(tmp_path, line) == OWN


def test_what_the_settings_need(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("langchain-openai==1.7\n")
    lines, _ = model_requirements(tmp_path / "requirements.txt", {"anthropic", "openai"})
    assert lines == ["langchain-openai==1.7", *OWN, "langchain-anthropic==0.1"]
    assert model_requirements(None, {"openai"})[0] == [*OWN, "langchain-openai==0.1"]


@pytest.mark.parametrize(
    ("settings", "extras"),
    [
        ({}, set()),
        (
            {"agent_model": "azure_openai:gpt", "agent_fallback_models": "bedrock_converse:claude"},
            {"openai", "bedrock"},
        ),
        ({"agent_model": "somebody:m"}, set()),
        ({"mcp_servers": {"s": {"url": "http://x"}}, "tavily_api_key": "k"}, {"mcp", "tavily"}),
        ({"lakebase_instance_name": "db"}, {"databricks"}),
        ({"genie_spaces": "0a1b"}, {"databricks"}),
        ({"embedding_model": "bedrock:m", "embedding_dimensions": 3}, {"bedrock"}),
    ],
)
def test_extras_for_settings(settings: Any, extras: set[str]) -> None:
    assert extras_for(Settings(**settings)) == extras


def test_extras_that_the_file_names(tmp_path: Path) -> None:
    assert requirements(tmp_path, "stateful-agent[openai]") == [*OWN, "langchain-openai==0.1"]
    assert sorted(requirements(tmp_path, "stateful-agent[all]")) == sorted([*OWN, "mcp==0.1", "langchain-openai==0.1"])


def test_another_package_with_the_librarys_name_in_its_own(tmp_path: Path) -> None:
    for line in ("stateful-agent-tools", "git+https://example.com/my-stateful-agents.git"):
        assert requirements(tmp_path, line) == [line, *OWN]


def test_what_is_on_this_machine_only_is_left_out_and_named(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("-e .\nmine @ file:///home/me/mine\n./lib.whl\nnumpy")
    lines, notes = model_requirements(file)
    assert lines == ["numpy", *OWN]
    assert [note.rpartition(": ")[2] for note in notes] == ["-e .", "mine @ file:///home/me/mine", "./lib.whl"]


def test_files_and_options_that_a_file_refers_to(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("numpy \\\n  --hash=sha256:abc\n")
    text = "-r base.txt\n-c limits.txt\n--extra-index-url https://example.com/simple\n"
    assert requirements(tmp_path, text) == [
        "numpy    --hash=sha256:abc",
        f"-c {(tmp_path / 'limits.txt').resolve()}",
        "--extra-index-url https://example.com/simple",
        *OWN,
    ]


def test_no_file(tmp_path: Path) -> None:
    lines, notes = model_requirements(None)
    assert lines == OWN
    assert "no requirements file" in notes[0]
    with pytest.raises(Failure, match="cannot be read"):
        model_requirements(tmp_path / "none.txt")


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module, "distribution", missing)
    with pytest.raises(Failure, match="not installed"):
        model_requirements(None)
