"""Which web pages may call: a browser lets a page of any site send requests to any address that it can reach."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stateful_agent.errors import AgentError, ForeignOrigin, UnknownHost
from stateful_agent.server.errors import answer

HARMLESS = ("GET", "HEAD", "OPTIONS")
"""The methods that change nothing, and whose answers a browser shows to no other site's page."""

JSON = re.compile(r"application/json\s*(;|$)", re.IGNORECASE)

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class KnownCallers:
    """Refuses what another site's page sends, and what asks for a name that is not the server's.

    The latter is a page of a site whose name was made to point at this server, which a browser then takes for its own.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], hosts: Collection[str] | None) -> None:
        """`origins` are those whose pages may call, `*` for all; `hosts` the server's names, `None`: any."""
        self._app = app
        self._origins = origins
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may call."""
        if scope["type"] == "http" and (error := self._error(scope["method"], Headers(scope=scope))):
            await answer(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _error(self, method: str, headers: Headers) -> AgentError | None:
        host = headers.get("host")  # which every browser sends
        if self._hosts is not None and host is not None and re.sub(r":\d*$", "", host).lower() not in self._hosts:
            return UnknownHost()
        origin = headers.get("origin")
        if method in HARMLESS or origin is None or "*" in self._origins or origin in self._origins:
            return None
        if JSON.match(headers.get("content-type", "")):  # a browser asks for leave before it sends that
            return None
        # Browsers say by themselves whether it is the same, also behind a proxy that changes the host's name.
        site = headers.get("sec-fetch-site")
        is_same = site in ("same-origin", "none") if site else urlsplit(origin).netloc == host
        return None if is_same else ForeignOrigin()


def names_of(host: str, allowed: str | None) -> list[str] | None:
    """The names that a server which listens at `host` may be asked by: those `allowed`, separated by commas, and on
    the loopback address its own; `None`: any."""
    named = [name.strip().lower() for name in (allowed or "").split(",") if name.strip()]
    bare = host.strip("[]")
    if bare == "localhost" or bare == "::1" or bare.startswith("127."):
        return [*LOOPBACK, host, *named]
    return named or None
