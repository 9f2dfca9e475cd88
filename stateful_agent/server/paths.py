"""Ids in paths: a slash that is percent-encoded belongs to the id that it is in, and parts no segments."""

import re
from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send

SLASH = "\x1f"
"""What stands for an encoded slash while a path is matched: no id has a character for control."""


class IdConvertor(Convertor[str]):
    """One segment of a path, which may hold encoded slashes. A route names it as in `{thread_id:id}`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """The id."""
        return value.replace(SLASH, "/")

    def to_string(self, value: str) -> str:
        """The reverse."""
        return value.replace("/", SLASH)


register_url_convertor("id", IdConvertor())


class EncodedSlashes:
    """Keeps the encoded slashes of a path apart from those that part its segments: servers decode both alike."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        raw = scope.get("raw_path") or b""
        if b"%2" in raw:
            path = re.sub("%2f", SLASH, raw.decode("latin-1"), flags=re.IGNORECASE)
            scope = {**scope, "path": unquote(path)}
        await self._app(scope, receive, send)
