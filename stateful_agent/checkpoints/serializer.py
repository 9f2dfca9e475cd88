"""How values are written to the database and read back: strictly.

A stored value names the type to make of it, and LangGraph's own default calls whatever that is: who can write a row
could run code. Here only messages, LangGraph's own types and those that the graph's state declares are made.
"""

import copy
import logging
import re
from collections.abc import Iterable
from typing import Any, Self

from langchain_core.messages import ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.errors import NotStorable
from stateful_agent.responses.thread_ref import is_unicode

logger = logging.getLogger(__name__)

BIG_INTEGER, MSGPACK_BITS = "integer", 63
"""The type of integers beyond msgpack's, as text."""

BROKEN_TEXT = "text"
"""The type of text that holds half of a character, which msgpack would replace."""

TypeName = tuple[str, ...]
"""A type as LangGraph's serializer names it: its module, and its name there."""


class Serializer(JsonPlusSerializer):
    """LangGraph's serializer, with a cipher around it, for the values of one thread."""

    def __init__(self, cipher: Cipher, types: Iterable[TypeName] = ()) -> None:
        """`types` are made of stored values beside those that are safe for any graph."""
        super().__init__(allowed_msgpack_modules=tuple(types))
        self.cipher = cipher

    def for_thread(self, thread_id: str) -> Self:
        """The same for the values of a thread."""
        return self._with(self.cipher.for_thread(thread_id))

    def for_message(self, number: int) -> Self:
        """The same for the thread's message of that number, which can be read as no other."""
        return self._with(self.cipher.for_message(number))

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The type and the bytes of a value as they are stored.

        A tool's artifact that cannot be stored is left out, with a warning.

        Raises:
            NotStorable: LangGraph's serializer has no form for it.
        """
        try:
            typed = self._dumped(obj)
        except NotStorable as error:
            bare = _without_artifacts(obj)
            if bare is None:
                raise
            typed = self._dumped(bare)
            logger.warning("A tool's artifact holds a %s, which cannot be stored: it is left out.", error.kind)
        return self.cipher.encrypt(*typed) if self.cipher.encrypts else typed

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that was stored as a type and bytes. Raises what `Cipher.decrypt` does."""
        kind, blob = self.cipher.decrypt(*data)
        try:
            if kind == BIG_INTEGER:
                return int(blob)
            if kind == BROKEN_TEXT:
                return blob.decode("utf-8", "surrogatepass")
            return super().loads_typed((kind, blob))
        except Exception:  # whatever a changed row may lead to; it may hold what the row holds
            raise self.cipher.unreadable() from None

    def _dumped(self, obj: Any) -> tuple[str, bytes]:
        if type(obj) is int and obj.bit_length() > MSGPACK_BITS:
            return BIG_INTEGER, str(obj).encode()
        if type(obj) is str and not is_unicode(obj):
            return BROKEN_TEXT, obj.encode("utf-8", "surrogatepass")
        try:
            return super().dumps_typed(obj)
        except (TypeError, ValueError, RecursionError) as error:
            found = re.fullmatch(r"Type is not msgpack serializable: (.+)", str(error))
            raise NotStorable(found[1] if found else type(obj).__name__) from error

    def _with(self, cipher: Cipher) -> Self:
        serializer = copy.copy(self)
        serializer.cipher = cipher
        return serializer


def _without_artifacts(value: Any) -> Any:
    """The message or messages without the artifacts of tools; `None` if there are none."""
    messages = value if isinstance(value, list) else [value]
    if not any(isinstance(message, ToolMessage) and message.artifact is not None for message in messages):
        return None
    bare = [
        message.model_copy(update={"artifact": None}) if isinstance(message, ToolMessage) else message
        for message in messages
    ]
    return bare if isinstance(value, list) else bare[0]
