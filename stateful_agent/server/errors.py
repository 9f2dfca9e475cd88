"""Errors over HTTP: always `{"error": {"message", "type", "code", "param"}}`, so that OpenAI clients raise theirs."""

import asyncio
import re

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stateful_agent.errors import AgentError, InvalidRequest, ShuttingDown
from stateful_agent.failures import typed
from stateful_agent.metrics import ERRORS


def answer_errors(app: FastAPI) -> None:
    """Let an app answer every error in this form, unexpected ones as well."""
    app.add_exception_handler(AgentError, _agent_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.add_middleware(Unexpected)


def answer(error: AgentError) -> JSONResponse:
    """The response for an error, with whether and when to send the request again."""
    ERRORS.labels(error.code).inc()
    headers = {} if error.should_retry else {"x-should-retry": "false"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse({"error": error.as_dict()}, error.status, headers)


async def _agent_error(_request: Request, error: Exception) -> JSONResponse:
    return answer(typed(error))


async def _malformed(_request: Request, error: Exception) -> JSONResponse:
    """The answer to what does not fit a route's declaration, named by the first field that does not."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # Between the names of fields, pydantic names the models and types that it tried.
    path = [part for part in map(str, first["loc"][1:]) if re.fullmatch(r"\d+|[a-z_]+", part)]
    message = f"{'.'.join(path) or 'The body'}: {first['msg'].removeprefix('Value error, ')}"
    return answer(InvalidRequest(message, param=path[0] if path else None))


async def _no_such_route(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "no_such_route"
    fields = {"message": error.detail, "type": "invalid_request_error", "code": code, "param": None}
    return JSONResponse({"error": fields}, error.status_code, error.headers)


class Unexpected:
    """Answers an error that no handler knows. Starlette's own handler for it runs outside of what adds CORS headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it, unless the response has begun."""
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, note)
        except ClientDisconnect:
            pass  # nobody is there to get an answer
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            if scope["type"] != "http":
                raise
            if not has_begun:  # else the stream has ended with it
                await answer(ShuttingDown())(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http" or has_begun:
                raise
            await answer(typed(error))(scope, receive, send)
