"""Encryption of what is stored, each value for the place that it is in, if there is a key (`LANGGRAPH_AES_KEY`).

What was encrypted with another key is read with that (`DECRYPTION_KEYS`).
"""

import copy
import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stateful_agent.errors import Misconfigured, Unreadable
from stateful_agent.settings import Settings

Metadata = dict[str, Any]
"""What is stored as JSON beside a checkpoint."""

ENCRYPTED = "+aesgcm"
"""What the type of an encrypted value ends with. LangGraph's own cipher is `+aes`; it binds a value to no thread."""

PREVIEW = "label"
"""The type of the encrypted preview of a message, so that it cannot be taken for a value."""

DIGESTS = b"stateful-agent digests"
"""Names the key for digests, which is derived from the one that encrypts."""

NONCE_BYTES = 12
"""Random for each value, which is good for 2 ** 32 values under one key."""


class Cipher:
    """Encrypts the values of one thread, or one that is remembered across threads.

    They can be decrypted in their place only, and as the type that they had.
    """

    def __init__(self, settings: Settings) -> None:
        """A cipher that is bound to no place yet.

        Raises:
            Misconfigured: the key is not as long as it must be, or there is none though encryption is required.
        """
        self._place = ""
        self._what = ""
        self._number: int | None = None
        self._is_required = settings.encryption_required
        self._keys = _keys(settings)
        key = settings.langgraph_aes_key
        self._digest_key = hmac.digest(key.get_secret_value().encode(), DIGESTS, "sha256") if key else None
        self.encrypts = bool(self._keys)
        """Whether what is written is encrypted."""
        if self._is_required and not self.encrypts:
            raise Misconfigured("ENCRYPTION_REQUIRED needs a key: set LANGGRAPH_AES_KEY.")

    def digest(self, data: bytes) -> bytes:
        """A digest of what is not stored itself. If there is a key, nobody without it can find out what that was."""
        if self._digest_key is None:
            return hashlib.sha256(data).digest()
        return hmac.digest(self._digest_key, data, "sha256")

    def only_newest(self) -> Self:
        """The same, which cannot decrypt what is encrypted with another key than the one that encrypts."""
        cipher = copy.copy(self)
        cipher._keys = self._keys[:1]
        return cipher

    def for_thread(self, thread_id: str) -> Self:
        """The same for the values of a thread."""
        cipher = copy.copy(self)
        cipher._place = thread_id
        cipher._what = f"What thread {thread_id!r} stores"
        return cipher

    def for_item(self, namespace: Sequence[str], key: str) -> Self:
        """The same for an item of LangGraph's store."""
        cipher = copy.copy(self)
        cipher._place = "\0".join(["", *namespace, key])  # no thread's id begins so
        cipher._what = f"What is remembered as {key!r}"
        return cipher

    def for_message(self, number: int | None) -> Self:
        """The same for the thread's message of that number; `None`: for its other values."""
        cipher = copy.copy(self)
        cipher._number = number
        return cipher

    def encrypt(self, kind: str, blob: bytes) -> tuple[str, bytes]:
        """A serialized value, as its type and bytes, as it is stored: unchanged if there is no key."""
        if not self._keys:
            return kind, blob
        kind += ENCRYPTED
        nonce = os.urandom(NONCE_BYTES)
        return kind, nonce + self._keys[0].encrypt(nonce, blob, self._bound_to(kind))

    def decrypt(self, kind: str, blob: bytes) -> tuple[str, bytes]:
        """The serialized value that is stored so.

        Raises:
            Unreadable: it was changed, it is another thread's, its key was another, or it should be encrypted.
            Misconfigured: it is encrypted, and there is no key.
        """
        if "+" not in kind:
            self.check_plain()
            return kind, blob
        if not self._keys:
            raise Misconfigured(
                f"{self._what} is encrypted: set LANGGRAPH_AES_KEY to the key that it was written with."
            )
        for key in self._keys:
            try:
                plain = key.decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], self._bound_to(kind))
            except (InvalidTag, ValueError, TypeError):  # the last two: it is too short, it is not there
                continue
            return kind.removesuffix(ENCRYPTED), plain
        raise Unreadable(
            f"{self._what} cannot be decrypted: neither LANGGRAPH_AES_KEY nor one of DECRYPTION_KEYS is the key "
            "that it was written with, or it was changed, or moved from another place."
        ) from None

    def seal(self, text: str) -> str:
        """What proves, beside a text that is stored as it is, that it was not changed. Empty if there is no key."""
        return b64encode(self.encrypt(text, b"")[1]).decode()

    def check_seal(self, text: str, seal: str) -> None:
        """Raises the same as `decrypt` unless the seal is this text's."""
        self.decrypt(text + (ENCRYPTED if seal else ""), b64decode(seal))

    def check_plain(self) -> None:
        """Raises `Unreadable` unless values that are not encrypted may be read."""
        if self._is_required:
            raise Unreadable(f"{self._what} is not encrypted, and ENCRYPTION_REQUIRED says that it must be.")

    def unreadable(self) -> Unreadable:
        """The error for what is stored and makes no sense."""
        return Unreadable(f"{self._what} was changed, or is of a form that this agent does not know.")

    def encrypt_metadata(self, metadata: Metadata) -> Metadata:
        """A checkpoint's metadata as it is stored: the preview of its last message is encrypted."""
        preview = metadata.get("last_message")
        if not self.encrypts or preview is None:
            return metadata
        _, blob = self.encrypt(PREVIEW, preview.encode())
        return metadata | {"last_message": {"encrypted": b64encode(blob).decode()}}

    def decrypt_metadata(self, metadata: Metadata) -> Metadata:
        """The reverse. Raises the same as `decrypt`."""
        preview = metadata.get("last_message")
        if isinstance(preview, dict):
            try:
                blob = b64decode(preview["encrypted"])
            except (KeyError, TypeError, ValueError):
                raise Unreadable(f"{self._what} was changed.") from None
            return metadata | {"last_message": self.decrypt(PREVIEW + ENCRYPTED, blob)[1].decode()}
        if preview is not None:
            self.check_plain()
        return metadata

    def _bound_to(self, kind: str) -> bytes:
        number = "" if self._number is None else f"{self._number}\0"
        return f"{self._place}\0{number}{kind}".encode()


def _keys(settings: Settings) -> list[AESGCM]:
    """The key that encrypts, and those that what is stored may be encrypted with, in this order."""
    if settings.langgraph_aes_key is None:
        if settings.decryption_keys:
            raise Misconfigured("DECRYPTION_KEYS are for what was encrypted before: set LANGGRAPH_AES_KEY as well.")
        return []
    keys = [settings.langgraph_aes_key, *settings.decryption_keys]
    names = ["LANGGRAPH_AES_KEY", *["Each of DECRYPTION_KEYS"] * len(settings.decryption_keys)]
    return [_key(name, key.get_secret_value().encode()) for name, key in zip(names, keys, strict=True)]


def _key(name: str, key: bytes) -> AESGCM:
    if len(key) not in (16, 24, 32):
        raise Misconfigured(f"{name} must be 16, 24 or 32 bytes long; it has {len(key)}.")
    return AESGCM(key)
