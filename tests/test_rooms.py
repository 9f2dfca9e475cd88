"""Imports between the rooms point down, as docs/design.md draws them."""

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "stateful_agent"
BASE = {"errors", "failures", "settings", "event_loop", "heavy_work", "identity", "metrics"}
PURE = {"responses", "turn"}
ALLOWED = {
    "errors": set(),
    "failures": {"errors"},
    "settings": set(),
    "event_loop": {"errors"},
    "heavy_work": set(),
    "traces": {"heavy_work", "identity"},
    "metrics": {"errors", "responses"},
    "identity": {"errors", "responses"},
    "responses": {"errors"},
    "turn": {"errors", "responses"},
    "graph": {"errors", "failures", "responses", "settings"},
    "database": {"errors", "settings"},
    "checkpoints": BASE | {"responses", "graph", "database"},
    "time_travel": BASE | PURE | {"graph", "database", "checkpoints"},
    "memory": BASE | PURE | {"graph", "database", "checkpoints", "time_travel"},
    "agent": BASE | PURE | {"graph", "database", "checkpoints", "time_travel", "memory", "traces"},
    "runs": BASE | PURE | {"database", "checkpoints", "agent"},
    "server": BASE | PURE | {"agent", "database", "runs", "traces"},
    "evaluation": BASE | PURE | {"agent", "server"},
    "deploy": BASE | PURE | {"agent", "checkpoints", "memory", "graph", "database"},
}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    """The rooms that a file imports, when it is imported or later."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stateful_agent."):
            names.add(node.module.split(".")[1])
    return names - {room_of(file)}


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_down(room: str) -> None:
    files = [file for file in PACKAGE.glob("**/*.py") if room_of(file) == room]
    assert files
    for file in files:
        assert imported(file) <= ALLOWED[room], file


def test_what_is_private_to_langgraph_is_used_in_one_file() -> None:
    private = re.compile(
        r"from langgraph\S*\._|from langgraph\S* import _|\b_last_v6_timestamp|\._load_(blobs|writes)\("
    )
    users = {file.name for file in PACKAGE.glob("**/*.py") if private.search(file.read_text())}
    assert users == {"langgraph_internals.py"}


def test_statements_are_in_sql_files() -> None:
    statement = re.compile(r"\b(INSERT INTO agent_|UPDATE agent_|DELETE FROM|FROM (agent_|checkpoint))")
    assert [file.name for file in PACKAGE.glob("**/*.py") if statement.search(file.read_text())] == []
