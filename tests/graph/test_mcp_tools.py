"""Tools of MCP servers, which are processes of their own."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually, free_port, text_of
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall
from walking import user

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.mcp_tools import mcp_tools

Make = Callable[..., Any]


class Model(GenericFakeChatModel):
    """A model that says these messages."""

    disable_streaming: bool = True

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def saying(*messages: AIMessage) -> Model:
    return Model(messages=iter(messages))


SERVER = Path(__file__).parent.parent / "mcp_server.py"
STDIO = {"command": sys.executable, "args": [str(SERVER)]}
NAMES = ["add", "fail", "hang", "a_picture", "die"]


@pytest.fixture(scope="module")
def http() -> Iterator[dict[str, Any]]:
    port = free_port()
    with subprocess.Popen([sys.executable, SERVER, str(port)]) as process:
        connection = {"url": f"http://127.0.0.1:{port}/mcp", "headers": {"Authorization": "Bearer ${MCP_TOKEN}"}}

        def answers() -> bool:
            try:
                return bool(mcp_tools({"s": connection | {"headers": {"Authorization": "Bearer t0ken"}}}))
            except Misconfigured:
                return False

        eventually(answers)
        yield connection
        process.kill()


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("MCP_TOKEN", "t0ken")
    return STDIO if request.param == "stdio" else dict(request.getfixturevalue("http"))


def called(make_agent: Make, tools: Any, name: str, timeout: float = 20, **arguments: Any) -> str:
    """What the model reads as the result of a call."""
    call = AIMessage("", tool_calls=[ToolCall(name=name, args=arguments, id="c")])
    agent = make_agent(build_graph(saying(call, AIMessage("done")), tools, tool_timeout=timeout))
    response = agent.predict({"input": [user("go")]}).model_dump(exclude_none=True)
    assert text_of(response) == "done"
    [output] = [item["output"] for item in response["output"] if item["type"] == "function_call_output"]
    return str(output)


def test_they_are_the_agents(make_agent: Make, server: dict[str, Any]) -> None:
    tools = mcp_tools({"s": server})
    assert [tool.name for tool in tools] == NAMES
    assert called(make_agent, tools, "add", a=2, b=3) == "the sum is 5"


def test_a_failure_is_read_by_the_model(make_agent: Make, server: dict[str, Any]) -> None:
    assert "no luck" in called(make_agent, mcp_tools({"s": server}), "fail")


def test_a_picture_stays_an_artifact(make_agent: Make, server: dict[str, Any]) -> None:
    assert called(make_agent, mcp_tools({"s": server}), "a_picture") == "[Kept as an artifact: image.]"


def test_one_that_hangs_is_given_up(make_agent: Make, server: dict[str, Any]) -> None:
    began = time.monotonic()
    assert "not finished after 2 seconds" in called(make_agent, mcp_tools({"s": server}), "hang", timeout=2)
    assert time.monotonic() - began < 15


def test_one_that_dies_takes_no_other_call_along(make_agent: Make) -> None:
    tools = mcp_tools({"s": STDIO})
    assert called(make_agent, tools, "die") == "Error: Connection closed"
    assert called(make_agent, tools, "add", a=2, b=3) == "the sum is 5"


def test_one_that_changes_its_tools(make_agent: Make) -> None:
    tools = mcp_tools({"s": STDIO | {"env": {"CHANGED": "yes"}}})
    assert [tool.name for tool in tools] == [*NAMES, "added_later"]
    before = mcp_tools({"s": STDIO})
    assert called(make_agent, before, "add", a=1, b=1) == "the sum is 2"


def test_none_is_none() -> None:
    assert mcp_tools({}) == []


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ({"command": "no-such-program"}, "no-such-program"),
        ({"url": "http://127.0.0.1:9/mcp"}, "'s' does not say which tools it has"),
        ({"transport": "pigeon", "url": "x"}, "pigeon"),
        ({"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "${NO_SUCH_VARIABLE}"}}, "NO_SUCH_VARIABLE"),
    ],
    ids=str,
)
def test_one_that_cannot_be_reached_is_named(server: Any, reason: str) -> None:
    with pytest.raises(Misconfigured, match=reason):
        mcp_tools({"s": server})


def test_a_token_that_is_refused(http: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_TOKEN", "wr0ng")
    with pytest.raises(Misconfigured, match=r"'s' does not say .*401 Unauthorized") as caught:
        mcp_tools({"s": http})
    assert "wr0ng" not in str(caught.value)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(Misconfigured, match="'a_picture'"):
        build_graph(saying(AIMessage("hi")), [*mcp_tools({"a": STDIO}), *mcp_tools({"b": STDIO})])


def test_a_server_may_have_its_name_before_those_of_its_tools(make_agent: Make) -> None:
    tools = mcp_tools({"s": STDIO | {"tool_name_prefix": True}})
    assert [tool.name for tool in tools] == [f"s_{name}" for name in NAMES]
    assert called(make_agent, tools, "s_add", a=2, b=3) == "the sum is 5"
