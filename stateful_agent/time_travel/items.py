"""The items of a conversation, as the Conversations API has them: one message may be several. Pure."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

from stateful_agent.errors import ItemNotFound
from stateful_agent.responses.messages import to_items, to_messages


def without_item(messages: Sequence[AnyMessage], item_id: str) -> tuple[list[AnyMessage], list[str]]:
    """The edit that takes an item out: messages that stand in the place of those with their ids, and ids to remove.

    A call and its output go together, as providers take neither without the other.

    Raises:
        ItemNotFound: there is no such item.
    """
    items = to_items(messages)
    named = next((item for item in items if item["id"] == item_id), None)
    if named is None:
        raise ItemNotFound(param="item_id")
    gone = [item for item in items if item is named or _belong_together(item, named)]
    touched = {item["message_id"] for item in gone}
    replaced, removed = [], []
    for message in messages:
        if message.id not in touched:
            continue
        rest = [item for item in items if item["message_id"] == message.id and item not in gone]
        if isinstance(message, AIMessage) and (kept := to_messages(rest)):
            [whole] = kept
            whole.id = message.id
            replaced.append(whole)
        else:
            removed.append(str(message.id))
    return replaced, removed


def _belong_together(item: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether they are a call and its output."""
    return "call_id" in item and item["call_id"] == other.get("call_id")
