"""A page of items, as OpenAI's lists are. Pure.

https://platform.openai.com/docs/api-reference/conversations/list-items
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stateful_agent.errors import ItemNotFound

Order = Literal["asc", "desc"]


def item_list(items: Sequence[Mapping[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """A list object of these items."""
    ids = [item["id"] for item in items] or [""]  # OpenAI's types have no other form for none
    return {"object": "list", "data": list(items), "first_id": ids[0], "last_id": ids[-1], "has_more": has_more}


def page_of(items: Sequence[Mapping[str, Any]], after: str | None, limit: int, order: Order) -> dict[str, Any]:
    """The list object of the `limit` items that come in that order after the one of the id `after`, or first.

    Raises:
        ItemNotFound: there is no item `after`.
    """
    ordered = list(items) if order == "asc" else list(items)[::-1]
    if after is not None:
        place = next((n for n, item in enumerate(ordered) if item["id"] == after), None)
        if place is None:
            raise ItemNotFound(param="after")
        ordered = ordered[place + 1 :]
    return item_list(ordered[:limit], has_more=len(ordered) > limit)
