"""Request bodies, read before FastAPI does: bounded, and JSON that other parties understand in the same way."""

import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from stateful_agent.errors import InputTooLarge, InvalidRequest
from stateful_agent.heavy_work import compute
from stateful_agent.responses.strict_json import MOST_VALUES, TOO_DEEP, JsonMeter, read_json


class JsonRequest(Request):
    """A request whose body is read."""

    content = b""
    parsed: Any = None

    async def body(self) -> bytes:
        """The body."""
        return self.content

    async def json(self) -> Any:
        """The body as JSON."""
        return self.parsed


class JsonRoute(APIRoute):
    """A route that takes a JSON object, if it declares a body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """How a request is handled."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_and_handle(request: Request) -> Response:
            read = JsonRequest(request.scope, request.receive)
            read.content = await read_body(request, request.app.state.max_input_bytes)
            read.parsed = await compute(partial(parse, read.content), read.content)
            return await handle(read)

        return read_and_handle


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The request's body, read no further than `max_bytes`, nor than what can be built without holding others up.

    Raises:
        InputTooLarge: there is more.
        InvalidRequest: it is not declared as JSON, or nested too deep.
    """
    # A web page may send any other form to any address without asking the browser first.
    content_type = request.headers.get("content-type", "").split(";")[0].strip()
    if not re.fullmatch(r"application/(.*\+)?json", content_type, re.IGNORECASE):
        raise InvalidRequest("Send JSON, with the header content-type: application/json.")
    body, meter = bytearray(), JsonMeter()
    async for chunk in request.stream():
        body += chunk
        meter.feed(chunk)
        if len(body) > max_bytes:
            raise InputTooLarge(f"The request has more than the {max_bytes} bytes that are allowed.")
        if meter.values > MOST_VALUES:
            raise InputTooLarge(f"The request has more than the {MOST_VALUES} JSON values that are allowed.")
        if meter.is_too_deep:
            raise InvalidRequest(f"The request's body is not JSON: {TOO_DEEP}")
    return bytes(body)


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds.

    Raises:
        InvalidRequest: it holds none.
    """
    try:
        parsed = read_json(body)
    except ValueError as error:
        raise InvalidRequest(f"The request's body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("The request's body must be a JSON object with `input`.")
    return parsed
