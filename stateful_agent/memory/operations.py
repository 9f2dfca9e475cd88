"""What an agent can be asked about what it remembers across threads. It belongs to no thread, and to no checkpoint."""

from typing import Any

from stateful_agent.database.pool import with_connection
from stateful_agent.database.statements import statements
from stateful_agent.errors import InvalidRequest
from stateful_agent.event_loop import blocking
from stateful_agent.identity import ALL_USERS, User
from stateful_agent.memory.embeddings import TextEmbeddings
from stateful_agent.memory.user_store import UserStore, namespace_of
from stateful_agent.responses.limits import check_limit
from stateful_agent.responses.thread_ref import is_unicode
from stateful_agent.time_travel import threads
from stateful_agent.time_travel.operations import TimeTravel, operation

MEMORIES = statements("memories")

MOST_BY_OFFSET = 10_000


class Memories(TimeTravel):
    """The methods of an agent that read and delete what it remembers of a user.

    Where users are not told apart, there is one memory for all.
    """

    embeddings: TextEmbeddings | None

    def memory_of(self, user: User) -> UserStore:
        """The store that the steps of a user's turns get."""
        return UserStore(user, self.database, self.store.cipher, self.embeddings)

    @operation
    async def alist_memories(self, limit: int = 10, offset: int = 0) -> list[dict[str, Any]]:
        """List what is remembered, the newest first, at most `limit` (1 to 1000), after the first `offset`.

        Each has `namespace` (a list of texts), `key`, `value` (a JSON object), `created_at` and `updated_at`.
        """
        check_limit(limit)
        if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset <= MOST_BY_OFFSET:
            raise InvalidRequest(f"offset must be a whole number from 0 to {MOST_BY_OFFSET}.", param="offset")
        return [
            {
                "namespace": list(item.namespace),
                "key": item.key,
                "value": item.value,
                "created_at": item.created_at.isoformat(),
                "updated_at": item.updated_at.isoformat(),
            }
            for item in await self.memory_of(self._identified()).asearch((), limit=limit, offset=offset)
        ]

    list_memories = blocking(alist_memories)

    @operation
    async def adelete_memories(self, namespace: list[str] | None = None, key: str | None = None) -> dict[str, Any]:
        """Delete what is remembered, for good: all of it, what is in a `namespace`, or what has a `key` there.

        Returns how many `memories` were deleted.
        """
        labels = [] if namespace is None else namespace
        if not isinstance(labels, list) or not all(_is_text(label) and "." not in label for label in labels):
            raise InvalidRequest("namespace must be a list of texts without periods.", param="namespace")
        if key is not None and not (_is_text(key) and namespace):
            raise InvalidRequest("A key is a text, and needs the namespace that it is in.", param="key")
        prefix = ".".join([*namespace_of(self._identified()), *labels])
        return {"memories": await self._delete_memories(prefix, key)}

    delete_memories = blocking(adelete_memories)

    @operation
    async def adelete_threads(self, memories: bool = False) -> dict[str, Any]:
        """Delete all threads of the user whom the agent acts for, and with `memories` what is remembered, for good.

        Returns how many `threads` and `memories` were deleted.

        Raises:
            InvalidRequest: the agent acts for no one user.
        """
        if not isinstance(memories, bool):
            raise InvalidRequest("memories must be true or false.", param="memories")
        user = self._identified()
        if user is ALL_USERS:
            raise InvalidRequest("Whose? All threads of one user are deleted, and users are not told apart here.")
        deleted = await threads.delete_threads(await self.database.pool(), user)
        found = await self._delete_memories(".".join(namespace_of(user)), None) if memories else 0
        return {"threads": deleted, "memories": found}

    delete_threads = blocking(adelete_threads)

    async def _delete_memories(self, prefix: str, key: str | None) -> int:
        values = {"prefix": prefix, "key": key, "below": f"{prefix}."}
        pool = await self.database.pool()

        async def delete(connection: Any) -> int:
            return int((await connection.execute(MEMORIES["delete_memories"], values)).rowcount)

        return await with_connection(pool, delete)


def _is_text(value: Any) -> bool:
    """Whether a value is a text, not empty, that storage can hold."""
    return isinstance(value, str) and value != "" and "\0" not in value and is_unicode(value)
