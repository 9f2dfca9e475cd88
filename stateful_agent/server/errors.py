"""Errors over HTTP: always `{"error": {"message", "type", "code", "param"}}`, so that OpenAI clients raise theirs."""

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stateful_agent.errors import AgentError, ShuttingDown, typed


def answer_errors(app: FastAPI) -> None:
    """Let an app answer every error in this form, those that nobody expects as well."""
    app.add_exception_handler(AgentError, _agent_error)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.add_middleware(Unexpected)


def answer(error: AgentError) -> JSONResponse:
    """The response that says an error, and whether and when to send the request again."""
    headers = {} if error.should_retry else {"x-should-retry": "false"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse({"error": error.as_dict()}, error.status, headers)


async def _agent_error(_request: Request, error: Exception) -> JSONResponse:
    return answer(typed(error))


async def _no_such_route(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "no_such_route"
    fields = {"message": error.detail, "type": "invalid_request_error", "code": code, "param": None}
    return JSONResponse({"error": fields}, error.status_code, error.headers)


class Unexpected:
    """Runs an error that no handler knows. Starlette's own place for it lies outside of what adds CORS headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, note)
        except ClientDisconnect:
            pass  # nobody is there to be told
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            if scope["type"] != "http":
                raise
            if not has_begun:  # else the stream has said so itself
                await answer(ShuttingDown())(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http" or has_begun:
                raise
            await answer(typed(error))(scope, receive, send)
