"""An MCP server: `python mcp_server.py`, over stdio, or with a port, over streamable HTTP, for those with a token."""

import asyncio
import os
import sys

from mcp.server.fastmcp import FastMCP, Image
from starlette.types import Receive, Scope, Send

port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = FastMCP("tests", port=port, stateless_http=True, streamable_http_path=os.environ.get("MCP_PATH", "/mcp"))


@server.tool()
def add(a: int, b: int) -> str:
    """Add two numbers."""
    return f"the sum is {a + b}"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no luck")


@server.tool()
async def hang() -> str:
    """Take a minute."""
    await asyncio.sleep(60)
    return "done"


@server.tool("a.picture")
def picture() -> Image:
    """Draw."""
    return Image(data=b"GIF89a", format="gif")


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(1)


if os.environ.get("CHANGED"):

    @server.tool()
    def added_later() -> str:
        """A tool that was not there before."""
        return "new"


if port:
    import uvicorn

    app = server.streamable_http_app()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != b"Bearer t0ken":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"who are you?"})
        else:
            await app(scope, receive, send)

    uvicorn.run(guarded, port=port, log_level="error")
else:
    server.run()
