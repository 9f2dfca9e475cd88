"""The tools of MCP servers (https://modelcontextprotocol.io), over stdio or streamable HTTP.

Each call has a session of its own: a server that dies takes no other call along, and is asked anew by the next.
"""

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from langchain_core.tools import BaseTool

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.tool_results import first_line

LISTING_SECONDS = 30
"""For how long a server may take to say which tools it has."""


def mcp_tools(servers: Mapping[str, Mapping[str, Any]]) -> list[BaseTool]:
    """The tools of these servers, each named and described as `langchain-mcp-adapters` takes a connection.

    Where the `transport` is not given, a `url` is spoken to over streamable HTTP and a `command` over stdio. `${NAME}`
    in a text stands for the environment variable of that name, so that no token need be written down. With
    `tool_name_prefix`, the server's name and `_` go before the names of its tools. With `"auth": "databricks"` it is
    asked as whoever the workspace's credentials belong to; its `url` may be a path in the workspace.

    Raises:
        Misconfigured: a server cannot be reached, or its description is wrong.
    """
    if not servers:
        return []
    if find_spec("langchain_mcp_adapters") is None:
        raise Misconfigured("MCP_SERVERS needs a package: pip install 'stateful-agent[mcp]'")
    connections = {name: _connection(name, server) for name, server in servers.items()}
    with ThreadPoolExecutor(1) as thread:  # the caller may be on an event loop
        return thread.submit(asyncio.run, _all_tools(connections)).result()


async def _all_tools(connections: dict[str, Any]) -> list[BaseTool]:
    found = await asyncio.gather(*(_tools(name, connection) for name, connection in connections.items()))
    return [tool for tools in found for tool in tools]


async def _tools(name: str, connection: Any) -> Sequence[BaseTool]:
    from langchain_mcp_adapters.client import MultiServerMCPClient  # a second, which only those who use it should pay

    prefixed = connection.pop("tool_name_prefix", None) or False
    client = MultiServerMCPClient({name: connection}, tool_name_prefix=prefixed)
    try:
        async with asyncio.timeout(LISTING_SECONDS):
            return [_named(tool) for tool in await client.get_tools()]
    except Exception as error:
        raise Misconfigured(f"The MCP server {name!r} does not say which tools it has: {first_line(error)}.") from error


def _named(tool: BaseTool) -> BaseTool:
    """The tool by a name that models take: MCP allows more."""
    return tool.model_copy(update={"name": re.sub(r"[^a-zA-Z0-9_-]", "_", tool.name)[:64]})


def _connection(name: str, server: Mapping[str, Any]) -> dict[str, Any]:
    connection = {key: _filled(name, value) for key, value in server.items()}
    if "transport" not in connection:
        connection["transport"] = "streamable_http" if "url" in connection else "stdio"
    if connection["transport"] == "stdio":
        connection.setdefault("args", [])
    return _on_databricks(name, connection) if connection.get("auth") == "databricks" else connection


def _on_databricks(name: str, connection: dict[str, Any]) -> dict[str, Any]:
    if find_spec("databricks_langchain") is None:
        raise Misconfigured(f"The MCP server {name!r} needs a package: pip install 'stateful-agent[databricks]'")
    from databricks.sdk import WorkspaceClient
    from databricks_langchain import DatabricksMCPServer

    try:
        workspace = WorkspaceClient()
    except ValueError as error:
        raise Misconfigured(f"The MCP server {name!r}: {first_line(error)}.") from error
    url = connection["url"]
    url = f"{workspace.config.host}{url}" if url.startswith("/") else url
    more = {key: value for key, value in connection.items() if key not in ("auth", "transport", "url")}
    server = DatabricksMCPServer(name=name, url=url, workspace_client=workspace, **more)
    return dict(server.to_connection_dict())


def _filled(name: str, value: Any) -> Any:
    """A value with environment variables in the place of their names."""
    if isinstance(value, Mapping):
        return {key: _filled(name, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(name, each) for each in value]
    if not isinstance(value, str):
        return value
    if missing := [variable for variable in re.findall(r"\$\{(\w+)\}", value) if variable not in os.environ]:
        raise Misconfigured(f"The MCP server {name!r} needs the environment variable {missing[0]}, which is not set.")
    return re.sub(r"\$\{(\w+)\}", lambda variable: os.environ[variable[1]], value)
