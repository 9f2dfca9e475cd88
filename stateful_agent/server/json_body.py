"""Request bodies, read before FastAPI does: bounded, and JSON that other parties understand in the same way."""

import re
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
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
    """A route that takes a JSON object, if it declares a body, and answers with JSON."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _answering_json(endpoint), **options)

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


def _answering_json(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(endpoint)
    async def answer(*args: Any, **kwargs: Any) -> Response:
        content = await endpoint(*args, **kwargs)
        return content if isinstance(content, Response) else await json_response(content)

    return answer


async def json_response(content: Any) -> JSONResponse:
    """An answer in JSON."""
    return await compute(partial(JSONResponse, content), content)


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
