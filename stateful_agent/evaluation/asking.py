"""How the agent that is evaluated is asked: in this process, or over HTTP as OpenAI's clients ask."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.errors import AgentError
from stateful_agent.server.loading import load_agent
from stateful_agent.server.target import locate

Ask = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]
"""Takes the body of a request, and yields the events of the answer.

Raises:
    Refused: the agent answers with an error.
"""

USER = "evaluation"
"""Whose the threads are, where users are told apart."""


class Refused(Exception):
    """An error that the agent answers with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def ask_of(target: str) -> Ask:
    """The way to ask an agent: at an address (http://...), in a Python file, or in a logged model.

    Raises:
        stateful_agent.server.target.CannotServe: there is no such file or model.
        stateful_agent.server.loading.CannotLoad: it holds no agent.
    """
    if target.startswith(("http://", "https://")):
        return over_http(target)
    return in_process(load_agent(Path(locate(target))))


def in_process(agent: LangGraphResponsesAgent) -> Ask:
    """Asks an agent that is here."""
    from mlflow.types.responses import ResponsesAgentRequest

    asked = agent.as_user(USER) if agent.settings.trusted_identity else agent

    def ask(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            for event in asked.predict_stream(ResponsesAgentRequest(**body)):
                yield _checked(event.model_dump())
        except AgentError as error:
            raise Refused(error.code, str(error)) from error

    return ask


def over_http(url: str) -> Ask:
    """Asks a server, through OpenAI's client."""
    from openai import APIConnectionError, APIStatusError, OpenAI

    client = OpenAI(base_url=url, api_key="none needed", max_retries=0)

    def ask(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        extra = {"custom_inputs": body["custom_inputs"], "context": {"user_id": USER}}
        try:
            for event in client.responses.create(model="agent", input=body["input"], stream=True, extra_body=extra):
                yield _checked(event.model_dump())
        except APIStatusError as error:
            raise Refused(str(error.code or error.status_code), error.message) from error
        except APIConnectionError as error:
            raise Refused("unreachable", f"{url} cannot be reached: {error.__cause__ or error}") from error

    return ask


def _checked(event: dict[str, Any]) -> dict[str, Any]:
    if event["type"] == "response.failed":
        raise Refused(event["response"]["error"]["code"], event["response"]["error"]["message"])
    if event["type"] == "error":
        raise Refused(event.get("code") or "error", event.get("message") or "")
    return event
