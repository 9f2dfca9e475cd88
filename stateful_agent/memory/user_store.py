"""LangGraph's store for one user: its namespaces lie in one of the user's own, in the agent's database.

https://docs.langchain.com/oss/python/langgraph/persistence#memory-store
"""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    get_text_at_path,
)
from langgraph.store.postgres import AsyncPostgresStore
from langgraph.store.postgres.base import PostgresIndexConfig

from stateful_agent.checkpoints.cipher import ENCRYPTED, Cipher
from stateful_agent.database.pool import Connection, Database, with_connection
from stateful_agent.identity import AllUsers, User
from stateful_agent.memory.embeddings import TextEmbeddings

SEALED = f"json{ENCRYPTED}"
"""The one key of a value that is stored encrypted, and the type that it is bound to."""

MAX_PLACE_BYTES = 2500
"""What a namespace and a key may have together: an index of Postgres holds no more."""

Namespace = tuple[str, ...]


def namespace_of(user: User) -> Namespace:
    """The namespace that a user's lie in. Where users are not told apart, there is one for all.

    LangGraph parts the labels of a namespace by periods, and takes an asterisk for any label.
    """
    if isinstance(user, AllUsers):
        return ("everyone",)
    return ("users", user.replace("%", "%25").replace(".", "%2E").replace("*", "%2A"))


class UserStore(BaseStore):
    """What a graph's steps and tools get as `runtime.store`. It reaches nobody else's namespaces.

    A connection is borrowed for the statements only: what is to be embedded is embedded before.
    """

    def __init__(self, user: User, database: Database, cipher: Cipher, embeddings: TextEmbeddings | None) -> None:
        """For the running event loop. Values are encrypted if the `cipher` does; nothing is embedded then."""
        self._root = namespace_of(user)
        self._database = database
        self._cipher = cipher
        self._embeddings = embeddings
        self._loop = asyncio.get_running_loop()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do operations, from a step or tool that is no coroutine: LangGraph runs it on another thread.

        Raises:
            RuntimeError: it is called on the agent's event loop.
            ValueError: see `abatch`.
        """
        try:
            on_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            on_loop = False
        if on_loop:
            raise RuntimeError("A coroutine cannot wait for the store: use its methods whose names begin with `a`.")
        return asyncio.run_coroutine_threadsafe(self.abatch(ops), self._loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do operations, as LangGraph's `BaseStore` has them.

        Raises:
            ValueError: storage cannot hold a value or its key, or search by values that are encrypted.
            ModelFailed: the model that embeds texts cannot.
            StorageUnavailable: the database cannot be reached.
            Unreadable: a value cannot be decrypted.
        """
        asked = [self._below_root(op) for op in ops]
        index = await self._index(asked)
        to_store = [self._encrypted(op) if isinstance(op, PutOp) else op for op in asked]

        async def work(connection: Connection) -> list[Result]:
            return await AsyncPostgresStore(connection, index=index).abatch(to_store)

        try:
            results = await with_connection(await self._database.pool(), work)
        except psycopg.DataError as error:
            raise ValueError(f"The store cannot hold this: {error}") from error
        return [self._without_root(result) for result in results]

    # -- Namespaces ------------------------------------------------------------------------------------------------

    def _below_root(self, op: Op) -> Op:
        match op:
            case GetOp() | PutOp():
                if len(".".join([*self._root, *op.namespace, op.key]).encode()) > MAX_PLACE_BYTES:
                    raise ValueError(f"A namespace and a key have {MAX_PLACE_BYTES} bytes at most.")
                return op._replace(namespace=(*self._root, *op.namespace))
            case SearchOp():
                if op.filter and self._cipher.encrypts:
                    raise ValueError("What is stored is encrypted: the store cannot be searched by its values.")
                return op._replace(namespace_prefix=(*self._root, *op.namespace_prefix))
            case ListNamespacesOp():
                given = [
                    each._replace(path=(*self._root, *each.path)) if each.match_type == "prefix" else each
                    for each in op.match_conditions or ()
                ]
                own = MatchCondition("prefix", self._root)
                depth = None if op.max_depth is None else op.max_depth + len(self._root)
                return op._replace(match_conditions=(own, *given), max_depth=depth)

    def _without_root(self, result: Any) -> Any:
        match result:
            case Item():
                return self._item(result)
            case tuple():
                return result[len(self._root) :]
            case list():
                return [self._without_root(each) for each in result]
        return result

    def _item(self, item: Item) -> Item:
        more = {"score": item.score} if isinstance(item, SearchItem) else {}
        return type(item)(
            value=self._decrypted(item),
            key=item.key,
            namespace=item.namespace[len(self._root) :],
            created_at=item.created_at,
            updated_at=item.updated_at,
            **more,
        )

    # -- Values ----------------------------------------------------------------------------------------------------

    def _encrypted(self, op: PutOp) -> PutOp:
        if op.value is None or not self._cipher.encrypts:
            return op
        kind, blob = self._cipher.for_item(op.namespace, op.key).encrypt("json", json.dumps(op.value).encode())
        return op._replace(value={kind: b64encode(blob).decode()})

    def _decrypted(self, item: Item) -> dict[str, Any]:
        cipher = self._cipher.for_item(item.namespace, item.key)
        if item.value.keys() != {SEALED}:
            cipher.check_plain()
            return item.value
        _, blob = cipher.decrypt(SEALED, b64decode(item.value[SEALED]))
        return dict(json.loads(blob))

    # -- Search by meaning -----------------------------------------------------------------------------------------

    async def _index(self, ops: Sequence[Op]) -> PostgresIndexConfig | None:
        """How LangGraph's store embeds what is in the operations: it looks up what is embedded here."""
        if self._embeddings is None:
            return None
        vectors = await self._embeddings.vectors(texts_in(ops))

        async def look_up(texts: Sequence[str]) -> list[list[float]]:
            return [vectors[text] for text in texts]

        return {**self._embeddings.index, "embed": look_up}


def texts_in(ops: Sequence[Op]) -> list[str]:
    """The texts that LangGraph's store embeds for operations."""
    texts = []
    for op in ops:
        if isinstance(op, SearchOp) and op.query:
            texts.append(op.query)
        elif isinstance(op, PutOp) and op.value is not None and op.index is not False:
            for path in ["$"] if op.index is None else op.index:
                texts += get_text_at_path(op.value, path)
    return texts
