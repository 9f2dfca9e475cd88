"""How values are written to the database and read back: strictly, and encrypted if there is a key.

A stored value names the type to make of it, and LangGraph's own default calls whatever that is: who can write a row
can run code. Here only messages, LangGraph's own types and those that the graph's state declares are made.
"""

import copy
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langgraph._internal._serde import build_serde_allowlist
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from stateful_agent.errors import Misconfigured, Unreadable
from stateful_agent.settings import Settings

Type = tuple[str, ...]
Labels = dict[str, Any]

ENCRYPTED = "+aesgcm"
"""What the type of an encrypted value ends with. LangGraph's own cipher is `+aes`; it binds a value to no thread."""

LABEL = "label"
"""The type of an encrypted label, so that it cannot be taken for a value."""

NONCE_BYTES = 12
"""Random for each value, which is good for 2 ** 32 values under one key."""


def declared_types(graph: CompiledStateGraph[Any, Any, Any, Any]) -> set[Type]:
    """The types that the state of a graph and of its subgraphs declares: those that LangGraph's strict mode allows."""
    found: set[Type] = set()
    for each in (graph, *(subgraph for _, subgraph in graph.get_subgraphs(recurse=True))):
        if isinstance(each, Pregel):  # a remote one keeps its state itself
            schemas = list(each.builder.schemas) if isinstance(each, CompiledStateGraph) else []
            found |= build_serde_allowlist(schemas=schemas, channels=each.channels)
    return found


class Serializer(JsonPlusSerializer):
    """LangGraph's serializer, for the values of one thread.

    An encrypted value can be read in its own thread only, and as the type that it was written as.
    """

    def __init__(self, settings: Settings, types: Iterable[Type] = ()) -> None:
        """`types` are made of stored values beside those that are safe for any graph.

        Raises:
            Misconfigured: the key is not as long as it must be, or there is none though encryption is required.
        """
        super().__init__(allowed_msgpack_modules=tuple(types))
        self._thread_id = ""
        self._number: int | None = None
        self._is_required = settings.encryption_required
        self._cipher = _cipher(settings)
        if self._is_required and not self.encrypts:
            raise Misconfigured("ENCRYPTION_REQUIRED needs a key: set LANGGRAPH_AES_KEY.")

    @property
    def encrypts(self) -> bool:
        """Whether what is written is encrypted."""
        return self._cipher is not None

    def of(self, thread_id: str) -> "Serializer":
        """The same for the values of a thread."""
        serde = copy.copy(self)
        serde._thread_id = thread_id
        return serde

    def of_message(self, number: int | None) -> "Serializer":
        """The same for the thread's message of that number, which can be read as no other; `None`: for other values."""
        serde = copy.copy(self)
        serde._number = number
        return serde

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The type and the bytes of a value as they are stored."""
        return self.encrypt(*super().dumps_typed(obj))

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that was stored as a type and bytes.

        Raises:
            Unreadable: it was changed, it is another thread's, or its key was another.
            Misconfigured: it is encrypted, and there is no key.
        """
        kind, blob = self.decrypt(*data)
        try:
            return super().loads_typed((kind, blob))
        except Exception:  # whatever a changed row may lead to; it may hold what the row holds
            raise self.changed() from None

    def encrypt(self, kind: str, blob: bytes) -> tuple[str, bytes]:
        """A serialized value as it is stored: as it is if there is no key."""
        if self._cipher is None:
            return kind, blob
        kind += ENCRYPTED
        nonce = os.urandom(NONCE_BYTES)
        return kind, nonce + self._cipher.encrypt(nonce, blob, self._place(kind))

    def decrypt(self, kind: str, blob: bytes) -> tuple[str, bytes]:
        """The serialized value. Raises the same as `loads_typed`."""
        if "+" not in kind:
            self.check_plain()
            return kind, blob
        if self._cipher is None:
            raise Misconfigured(
                f"{self._what} is encrypted: set LANGGRAPH_AES_KEY to the key that it was written with."
            )
        try:
            plain = self._cipher.decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], self._place(kind))
        except (InvalidTag, ValueError, TypeError):  # the last two: it is too short, it is not there
            raise Unreadable(
                f"{self._what} cannot be decrypted: LANGGRAPH_AES_KEY is not the key that it was written with, or it "
                "was changed, or moved from another thread."
            ) from None
        return kind.removesuffix(ENCRYPTED), plain

    def seal(self, text: str) -> str:
        """What proves, beside a text that is stored as it is, that it was not changed. Empty if there is no key."""
        return b64encode(self.encrypt(text, b"")[1]).decode()

    def check_seal(self, text: str, seal: str) -> None:
        """Raises the same as `loads_typed` unless the seal is this text's."""
        self.decrypt(text + (ENCRYPTED if seal else ""), b64decode(seal))

    def changed(self) -> Unreadable:
        """The error that says that what is stored makes no sense."""
        return Unreadable(f"{self._what} was changed, or is of a form that this agent does not know.")

    def check_plain(self) -> None:
        """Raises `Unreadable` unless values that are not encrypted may be read."""
        if self._is_required:
            raise Unreadable(f"{self._what} is not encrypted, and ENCRYPTION_REQUIRED says that it must be.")

    def hide(self, labels: Labels) -> Labels:
        """A checkpoint's labels as they are stored in JSON: what was said is encrypted."""
        said = labels.get("last_message")
        if not self.encrypts or said is None:
            return labels
        _, blob = self.encrypt(LABEL, said.encode())
        return labels | {"last_message": {"encrypted": b64encode(blob).decode()}}

    def show(self, labels: Labels) -> Labels:
        """The labels that `hide` hid. Raises the same as `loads_typed`."""
        said = labels.get("last_message")
        if isinstance(said, dict):
            try:
                blob = b64decode(said["encrypted"])
            except (KeyError, TypeError, ValueError):
                raise Unreadable(f"{self._what} was changed.") from None
            return labels | {"last_message": self.decrypt(LABEL + ENCRYPTED, blob)[1].decode()}
        if said is not None:
            self.check_plain()
        return labels

    @property
    def _what(self) -> str:
        return f"What thread {self._thread_id!r} stores"

    def _place(self, kind: str) -> bytes:
        number = "" if self._number is None else f"{self._number}\0"
        return f"{self._thread_id}\0{number}{kind}".encode()


def _cipher(settings: Settings) -> AESGCM | None:
    if settings.langgraph_aes_key is None:
        return None
    key = settings.langgraph_aes_key.get_secret_value().encode()
    if len(key) not in (16, 24, 32):
        raise Misconfigured(f"LANGGRAPH_AES_KEY must be 16, 24 or 32 bytes long; it has {len(key)}.")
    return AESGCM(key)
