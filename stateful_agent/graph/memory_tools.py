"""The tools by which the agent remembers things of a user across threads, and recalls them.

What is remembered belongs to no checkpoint: it stays when a conversation goes back in time.
"""

import uuid

from langchain_core.tools import BaseTool, ToolException, tool
from langgraph.prebuilt import ToolRuntime
from langgraph.store.base import BaseStore, Item

from stateful_agent.graph.tools import words

NAMESPACE = ("memories",)
MAX_MEMORY_CHARS = 2000
RECALLED, LOOKED_THROUGH = 20, 500
"""How many are recalled at once at most, and how many of the newest are looked through for words."""


@tool
async def remember(text: str, runtime: ToolRuntime, memory_id: str | None = None) -> str:
    """Remember something about the user for later conversations, in one sentence that says of what it is true.

    With the memory_id of something that is remembered, the sentence takes its place; an empty one is forgotten.
    """
    if len(text) > MAX_MEMORY_CHARS:
        raise ToolException(f"This is too long to remember: {MAX_MEMORY_CHARS} characters at most.")
    store, key = _store_of(runtime), memory_id or uuid.uuid4().hex[:8]
    if memory_id and await store.aget(NAMESPACE, key) is None:
        raise ToolException(f"Nothing is remembered as {memory_id!r}.")
    if not (text.strip() or memory_id):
        raise ToolException("There is nothing to remember: the text is blank.")
    if not text.strip():
        await store.adelete(NAMESPACE, key)
        return f"Forgotten ({key})."
    await store.aput(NAMESPACE, key, {"text": text}, index=["text"])
    return f"Remembered ({key})."


@tool
async def recall(about: str, runtime: ToolRuntime) -> str:
    """Look up what is remembered about the user from earlier conversations."""
    found = await _store_of(runtime).asearch(NAMESPACE, query=about or None, limit=LOOKED_THROUGH)
    if not any(item.score is not None for item in found[:RECALLED]):  # they are not found by their meaning
        wanted = words(about)
        found.sort(key=lambda item: len(wanted & words(str(item.value))), reverse=True)
    return "\n".join(_line(item) for item in found[:RECALLED]) or "Nothing is remembered."


memory_tools: list[BaseTool] = [remember, recall]


def _store_of(runtime: ToolRuntime) -> BaseStore:
    if runtime.store is None:
        raise ToolException("Nothing can be remembered in a conversation that is not stored.")
    return runtime.store


def _line(item: Item) -> str:
    return f"{item.updated_at:%Y-%m-%d} ({item.key}): {item.value.get('text', item.value)}"
