"""How values are written to the database and read back: strictly.

A stored value names the type to make of it, and LangGraph's own default calls whatever that is: who can write a row
could run code. Here only messages, LangGraph's own types and those that the graph's state declares are made.
"""

import copy
from collections.abc import Iterable
from typing import Any, Self

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from stateful_agent.checkpoints.cipher import Cipher

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
        """The type and the bytes of a value as they are stored."""
        typed = super().dumps_typed(obj)
        return self.cipher.encrypt(*typed) if self.cipher.encrypts else typed

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that was stored as a type and bytes. Raises what `Cipher.decrypt` does."""
        kind, blob = self.cipher.decrypt(*data)
        try:
            return super().loads_typed((kind, blob))
        except Exception:  # whatever a changed row may lead to; it may hold what the row holds
            raise self.cipher.unreadable() from None

    def _with(self, cipher: Cipher) -> Self:
        serializer = copy.copy(self)
        serializer.cipher = cipher
        return serializer
