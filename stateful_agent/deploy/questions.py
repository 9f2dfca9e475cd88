"""Questions to a deployed agent, through Databricks' own OpenAI client, as its callers ask them."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stateful_agent.deploy.failure import Failure

SNIPPET = """from databricks_openai import DatabricksOpenAI

client = DatabricksOpenAI()
answer = client.responses.create(model="{target}", input="What can you do?")
print(answer.output_text)

thread = {{"thread_id": answer.custom_outputs["thread_id"]}}
answer = client.responses.create(model="{target}", input="Go on.", extra_body={{"custom_inputs": thread}})
print(answer.output_text)
"""
"""How to call what was deployed at the endpoint `target`."""

USER = "deployment-check"
"""Whose the thread of the first questions is, where users are told apart."""


@dataclass
class Asked:
    """A question to a deployed agent, whose answer is read as it comes."""

    target: str
    text: str
    custom_inputs: dict[str, str]
    user: str | None = None
    custom_outputs: dict[str, Any] = field(default_factory=dict)
    """What the answer carries besides its words, once it has been read."""

    def words(self) -> Iterator[str]:
        """The words of the answer, piece by piece.

        Raises:
            Failure: the agent does not answer.
        """
        from databricks_openai import DatabricksOpenAI  # seconds, which `--help` should not take
        from openai import OpenAIError

        body = _body(self.custom_inputs, self.user)
        try:
            events = DatabricksOpenAI().responses.create(
                model=self.target, input=self.text, stream=True, extra_body=body
            )
            for event in events:
                match event.type:
                    case "response.output_text.delta":
                        yield event.delta
                    case "response.completed" | "response.incomplete":
                        self.custom_outputs = event.response.custom_outputs
                    case "response.failed":
                        raise Failure(f"{self.target} does not answer: {event.response.error.message}")
                    case "error":
                        raise Failure(f"{self.target} does not answer: {event.message}")
        except (OpenAIError, ValueError) as error:
            raise Failure(f"{self.target} does not answer: {error}") from error
        if not self.custom_outputs:
            raise Failure(f"{self.target} ended its answer early.")


def try_out(target: str, *, with_user: bool) -> Iterator[str]:
    """Ask a deployed agent a first question, go on, and fork from the first answer. Yields what was seen, in words.

    The thread is deleted afterwards. `with_user` names a user in the request's context.

    Raises:
        Failure: the agent does not answer, or has not kept what it answered.
    """
    user = USER if with_user else None
    first = Asked(target, "What can you do?", {}, user)
    yield f"It answers: {_shortened(''.join(first.words()))}"
    thread, checkpoint = first.custom_outputs["thread_id"], first.custom_outputs["checkpoint_id"]
    try:
        on = Asked(target, "Go on.", {"thread_id": thread}, user)
        "".join(on.words())
        if on.custom_outputs["parent_checkpoint_id"] != checkpoint:
            raise Failure(f"{target} does not go on from what it answered before.")
        fork = Asked(target, "Something else.", {"thread_id": thread, "checkpoint_id": checkpoint}, user)
        "".join(fork.words())
        if fork.custom_outputs["parent_checkpoint_id"] != checkpoint:
            raise Failure(f"{target} does not fork from an earlier answer.")
        yield "It goes on from its answer, and forks from it."
    finally:
        _delete(target, thread, user)


def _delete(target: str, thread: str, user: str | None) -> None:
    from databricks_openai import DatabricksOpenAI
    from openai import OpenAIError

    body = _body({"operation": "delete_thread", "thread_id": thread}, user)
    with suppress(OpenAIError):  # a thread that stays harms nobody
        DatabricksOpenAI().responses.create(model=target, input=[], extra_body=body)


def _body(custom_inputs: dict[str, str], user: str | None) -> dict[str, Any]:
    """What a request has besides OpenAI's own keys."""
    return {"custom_inputs": custom_inputs} | ({} if user is None else {"context": {"user_id": user}})


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:99] + "…"
