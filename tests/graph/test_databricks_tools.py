"""Tools in a Databricks workspace: its API over HTTP, and its managed MCP server as a process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually, free_port, text_of
from scripted import Calling
from walking import user
from workspace import Workspace, serving_api

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.databricks_tools import databricks_tools
from stateful_agent.graph.mcp_tools import mcp_tools

Make = Callable[..., Any]


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    workspace = Workspace("no Postgres", 0)
    with serving_api(workspace) as url:
        monkeypatch.setenv("DATABRICKS_HOST", url)
        monkeypatch.setenv("DATABRICKS_TOKEN", workspace.key)
        yield workspace


def result(make_agent: Make, tools: Any, name: str, arguments: str) -> str:
    """What the model reads as the result of a call."""
    agent = make_agent(build_graph(Calling(tool=name, arguments=(arguments,)), tools))
    response = agent.predict({"input": [user("go")]}).model_dump(exclude_none=True)
    assert text_of(response) == "done"
    return next(item["output"] for item in response["output"] if item["type"] == "function_call_output")


def test_a_genie_space_is_asked(make_agent: Make, workspace: Workspace) -> None:
    [tool] = databricks_tools(genie_spaces=["0a1b"])
    assert (tool.name, "Trips and where they went." in tool.description) == ("genie_0a1b", True)
    answer = result(make_agent, [tool], "genie_0a1b", '{"question": "Trips by city?"}')
    assert workspace.questions == ["Trips by city?"]
    assert "Oslo" in answer
    assert "3" in answer
    assert "no such table" in result(make_agent, [tool], "genie_0a1b", '{"question": "fail"}')


def test_an_index_is_searched(make_agent: Make, workspace: Workspace) -> None:
    [tool] = databricks_tools(indexes=["main.docs.trips"])
    assert tool.name == "main__docs__trips"
    assert "Oslo is cold." in result(make_agent, [tool], tool.name, '{"query": "Where is it cold?"}')
    assert workspace.questions == ["Where is it cold?"]


def test_one_that_fails_is_read_by_the_model(make_agent: Make, workspace: Workspace) -> None:
    tools = databricks_tools(genie_spaces=["0a1b"], indexes=["main.docs.trips"])
    workspace.failing = {"start-conversation": 400, "query": 403}
    assert result(make_agent, tools, "genie_0a1b", '{"question": "?"}').startswith("Error")
    assert result(make_agent, tools, "main__docs__trips", '{"query": "?"}').startswith("Error")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"genie_spaces": ["unknown"]}, "Genie space 'unknown' cannot be used"),
        ({"indexes": ["main.docs.unknown"]}, "index 'main.docs.unknown' cannot be used"),
        ({"functions": ["main.tools.unknown"]}, "'main.tools.unknown' does not say which tools it has"),
        ({"functions": ["main.tools"]}, "write catalog.schema.function"),
        ({"functions": ["main.tools.a/b"]}, "write catalog.schema.function"),
    ],
    ids=str,
)
def test_one_that_there_is_not_is_named(workspace: Workspace, named: Any, words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        databricks_tools(**named)


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for named in ({"functions": ["main.tools.add"]}, {"genie_spaces": ["0a1b"]}):
        with pytest.raises(Misconfigured, match="auth"):
            databricks_tools(**named)


def test_none_is_none() -> None:
    assert databricks_tools() == []


@pytest.fixture
def managed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A workspace whose managed MCP server has the functions of a schema."""
    port, program = free_port(), Path(__file__).parent.parent / "mcp_server.py"
    environment = os.environ | {"MCP_PATH": "/api/2.0/mcp/functions/main/tools"}
    with subprocess.Popen([sys.executable, program, str(port)], env=environment) as process:
        monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("DATABRICKS_TOKEN", "t0ken")

        def answers() -> bool:
            try:
                return bool(databricks_tools(["main.tools.*"]))
            except Misconfigured:
                return False

        eventually(answers)
        yield
        process.kill()


@pytest.mark.usefixtures("managed")
def test_functions_of_unity_catalog_run_behind_the_managed_server(make_agent: Make) -> None:
    tools = databricks_tools(["main.tools.*"])
    assert result(make_agent, tools, "add", '{"a": 2, "b": 3}') == "the sum is 5"
    named = {"tools": {"url": "/api/2.0/mcp/functions/main/tools", "auth": "databricks", "tool_name_prefix": True}}
    assert result(make_agent, mcp_tools(named), "tools_add", '{"a": 2, "b": 3}') == "the sum is 5"


@pytest.mark.usefixtures("managed")
def test_a_token_that_is_refused_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "wr0ng")
    with pytest.raises(Misconfigured) as caught:
        databricks_tools(["main.tools.*"])
    assert "wr0ng" not in str(caught.value)
