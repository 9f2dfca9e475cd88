"""A conversation made shorter: what the user said, and a summary that stands for the rest. Pure.

https://www.openresponses.org/specification, `POST /responses/compact`.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from stateful_agent.errors import InvalidRequest, ModelFailed
from stateful_agent.responses.types import MODEL, Response, Usage

QUESTION = (
    "Summarize our conversation so far, for yourself to go on with: what I want, what was decided, the facts and the "
    "results of tools that may be needed later, and what is still open. My own messages are kept beside it. Answer "
    "with the summary alone."
)
"""What the model is asked at the end of a conversation that is to be made shorter."""

HEADING = "Summary of the conversation until here, in which only the user's messages are kept:\n\n"
"""What a summary begins with, for the model and for people who read the conversation."""


NO_USAGE: Usage = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


def shortened(messages: Sequence[AnyMessage], summary: str) -> list[AnyMessage]:
    """The user's messages of a conversation, and the summary that stands for the rest, as the assistant's."""
    return [*(one for one in messages if isinstance(one, HumanMessage)), AIMessage(HEADING + summary)]


def summary_in(response: Response) -> str:
    """The summary in the response to `QUESTION`.

    Raises:
        ModelFailed: there is none, or not the whole of it.
    """
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    text = "".join(part.get("text", "") for part in parts).strip()
    if response["status"] != "completed" or not text:
        raise ModelFailed("The model gave no whole summary of the conversation: nothing was changed.")
    return text


def compaction_item(item_id: str, text: str) -> dict[str, Any]:
    """A summary as an item that a client sends back as it is: its text is encoded, not encrypted."""
    return {"id": item_id, "type": "compaction", "encrypted_content": b64encode(text.encode()).decode()}


def text_of_compaction(item: dict[str, Any], param: str) -> str:
    """The reverse.

    Raises:
        InvalidRequest: it is not from here.
    """
    try:
        text = b64decode(item["encrypted_content"], validate=True).decode()
        if text.startswith(HEADING):
            return text
    except (KeyError, TypeError, ValueError):
        pass
    raise InvalidRequest(
        "This compaction is not one of this agent's: it cannot be read.", param=f"{param}.encrypted_content"
    )


def compaction_response(
    response_id: str, created_at: int, output: Sequence[Any], usage: Usage | None, custom_outputs: dict[str, Any]
) -> Response:
    """The answer to a request for compaction; where the model does not tell its usage, that is 0."""
    return {
        "id": response_id,
        "object": "response.compaction",
        "created_at": created_at,
        "model": MODEL,
        "output": list(output),
        "usage": usage or NO_USAGE,
        "custom_outputs": custom_outputs,
    }
