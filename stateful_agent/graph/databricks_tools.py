"""Tools in a Databricks workspace: functions of Unity Catalog, Genie spaces and indexes of Vector Search.

All through databricks-langchain, as whoever the workspace's credentials in the environment belong to. What they are is
asked when the agent is first used.
"""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from langchain_core.tools import BaseTool, StructuredTool

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.mcp_tools import mcp_tools
from stateful_agent.graph.tool_results import first_line


def databricks_tools(
    functions: Sequence[str] = (), genie_spaces: Sequence[str] = (), indexes: Sequence[str] = ()
) -> list[BaseTool]:
    """The tools of these.

    `functions` are `catalog.schema.function`, or `catalog.schema.*` for all of a schema: Databricks runs them itself,
    behind its managed MCP server. `genie_spaces` are the ids of spaces: each is asked a question at a time, without
    what was asked before. `indexes` are `catalog.schema.index`.

    Raises:
        Misconfigured: one cannot be reached, or the package for it is not installed.
    """
    if not (functions or genie_spaces or indexes):
        return []
    if find_spec("databricks_langchain") is None:
        raise Misconfigured("Databricks' tools need a package: pip install 'stateful-agent[databricks]'")
    servers = {name: {"url": _path_of(name), "auth": "databricks"} for name in functions}
    return [
        *mcp_tools(servers),
        *(_made("Genie space", space, _genie) for space in genie_spaces),
        *(_made("index", index, _retriever) for index in indexes),
    ]


def _path_of(function: str) -> str:
    """Where Databricks' managed MCP server has a function, or all of a schema."""
    parts = function.split(".")
    if len(parts) != 3 or not all(re.fullmatch(r"[^/\s?#]+", part) for part in parts):
        raise Misconfigured(f"{function!r} is no function: write catalog.schema.function, or catalog.schema.*")
    return "/api/2.0/mcp/functions/" + "/".join(part for part in parts if part != "*")


def _made(kind: str, name: str, make: Callable[[str], BaseTool]) -> BaseTool:
    try:
        return make(name)
    except Exception as error:  # the SDK has many
        raise Misconfigured(f"The {kind} {name!r} cannot be used: {first_line(error)}.") from error


def _genie(space: str) -> BaseTool:
    from databricks_langchain import GenieAgent

    agent = GenieAgent(space, message_processor=lambda messages: messages[-1]["content"])

    def ask(question: str) -> str:
        answer = agent.invoke({"messages": [{"role": "user", "content": question}]})
        return str(answer["messages"][-1].content)

    about = f" They are: {agent.description}" if agent.description else ""
    return StructuredTool.from_function(
        ask, name=f"genie_{space}"[:64], description=f"Ask a question about the data, in plain words.{about}"
    )


def _retriever(index: str) -> BaseTool:
    from databricks.sdk import WorkspaceClient
    from databricks_langchain import VectorSearchRetrieverTool

    return VectorSearchRetrieverTool(index_name=index, workspace_client=WorkspaceClient())
