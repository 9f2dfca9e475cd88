"""The operations of time travel: what can be done with a thread beside taking a turn on it.

The same methods in Python, in a request as `custom_inputs.operation`, and under `/threads` on the server.
"""

import copy
import inspect
import uuid
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from langchain_core.messages import AnyMessage, RemoveMessage

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.checkpoints.store import CheckpointStore
from stateful_agent.checkpoints.waiting import interrupts_at
from stateful_agent.database.pool import Database, Pool
from stateful_agent.errors import InvalidRequest, ResponseNotFound, ThreadExists, ThreadNotFound
from stateful_agent.event_loop import AgentLoop, blocking, on_loop
from stateful_agent.graph.schemas import state_values
from stateful_agent.heavy_work import compute
from stateful_agent.identity import User, identify, stored_ids
from stateful_agent.responses.limits import check_count, check_limit, check_metadata, check_size, check_storable
from stateful_agent.responses.messages import to_items, to_messages
from stateful_agent.responses.thread_ref import check_id
from stateful_agent.settings import Settings
from stateful_agent.time_travel import history, threads
from stateful_agent.time_travel.copies import copy_thread
from stateful_agent.time_travel.edit import COPY, begin_thread, edit
from stateful_agent.time_travel.items import without_item
from stateful_agent.time_travel.tree import Tree
from stateful_agent.turn import messages_at

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="TimeTravel")
Method = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]

OPERATIONS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {}
"""The operations by the names that requests call them by. `operation` lists them."""


def operation(method: Method[S, P, T]) -> Method[S, P, T]:
    """Make a method an operation: it can be awaited from any event loop, and called in a request."""
    method = on_loop(method)
    OPERATIONS[method.__name__.removeprefix("a")] = method
    return method


class TimeTravel:
    """The methods of an agent that read, walk, edit and prune its conversations.

    Each comes twice: as a coroutine named `a...`, and blocking, for callers from any thread or notebook. What they
    return is JSON. All of them raise `InvalidRequest` for an argument of the wrong form, `Unidentified` where
    TRUSTED_IDENTITY is set and the agent acts for no user, and `StorageUnavailable`.
    """

    settings: Settings
    database: Database
    store: CheckpointStore
    loop: AgentLoop
    user: User | None
    """Whom the agent acts for."""

    attempt: Attempt | None
    """The request that an operation is done for: a retry of it must not edit a second time."""

    def as_user(self, user: User) -> Self:
        """The same agent, acting for a user: it reaches that user's threads only; with `ALL_USERS`, everybody's."""
        view = copy.copy(self)
        view.user = user
        return view

    # -- One thread ------------------------------------------------------------------------------------------------

    @operation
    async def aget_checkpoint_history(
        self, thread_id: str, limit: int = 10, before: str | None = None
    ) -> list[dict[str, Any]]:
        """List a thread's checkpoints of all branches, newest first, at most `limit` (1 to 1000) of them.

        `before` is the checkpoint_id that the page before ended with. Each entry has `checkpoint_id`,
        `parent_checkpoint_id`, `thread_id`, `timestamp` (ISO 8601, UTC), `next_nodes`, `message_count`,
        `last_message` (its first 100 characters), `turn` (1 for the first of its branch), `nodes` (the steps that
        made the checkpoint), `source` (`input`: a turn begins; `loop`: a step ended; `update`: an edit; `fork`: a
        replay begins) and `step`, which counts on from parent to child. A notebook draws the list as a tree, and
        `print` writes it as one.

        Raises:
            ThreadNotFound: there is no such thread.
            CheckpointNotFound: the thread has no checkpoint `before`.
        """
        if before is not None:
            check_id(before, "before")
        check_limit(limit)
        pool, stored_id = await self._open_thread(thread_id)
        graph, saver = await self.store.graph_with_saver()
        entries = await history.checkpoint_history(pool, saver, graph, stored_id, limit, before)
        return Tree(entry | {"thread_id": thread_id} for entry in entries)

    get_checkpoint_history = blocking(aget_checkpoint_history)

    @operation
    async def aget_checkpoint_state(
        self, thread_id: str, checkpoint_id: str | None = None, subgraphs: bool = False
    ) -> dict[str, Any]:
        """Everything the agent knew at a checkpoint, or at the head.

        To what an entry of the history has, it adds `messages`: Responses items, each with the `message_id` by which
        an edit names it; `pending_messages`: those that are not in the checkpoint yet, the input that a turn begins
        with or results of tool calls of which others did not finish; `pending_tool_calls` (`call_id`, `name`,
        `arguments`), which a replay would run; `interrupts` (`id`, `value`, `node`), which wait for an answer there;
        `values`: what the graph's state has beside messages, as JSON; the `response_id` and, if it was traced, MLflow's
        `trace_id` of the turn that made it; and `usage`, the tokens of all answers since the user's last message, in a
        response's form. With `subgraphs`, it adds a list of those that are at work there: `node`, `checkpoint_id`,
        `next_nodes`, `messages`, `values`, and their own `subgraphs`.

        Raises:
            ThreadNotFound: there is no such thread.
            CheckpointNotFound: the thread has no such checkpoint.
        """
        if checkpoint_id is not None:
            check_id(checkpoint_id, "checkpoint_id")
        if not isinstance(subgraphs, bool):
            raise InvalidRequest("subgraphs must be true or false.", param="subgraphs")
        _, stored_id = await self._open_thread(thread_id)
        graph, saver = await self.store.graph_with_saver()
        checkpoint = await saver.load(stored_id, checkpoint_id)
        if checkpoint is None:
            raise ThreadNotFound(param="thread_id")
        interrupts = await interrupts_at(graph, checkpoint)
        values = checkpoint.checkpoint["channel_values"]
        state = await compute(partial(history.checkpoint_state, graph, checkpoint, interrupts), values)
        state["thread_id"] = thread_id
        return state | {"subgraphs": await history.subgraph_states(graph, checkpoint)} if subgraphs else state

    get_checkpoint_state = blocking(aget_checkpoint_state)

    @operation
    async def aupdate_checkpoint_state(
        self,
        thread_id: str,
        checkpoint_id: str | None,
        new_messages: list[dict[str, Any]] | None = None,
        remove_messages: list[str] | None = None,
        values: dict[str, Any] | None = None,
        as_node: str | None = None,
    ) -> dict[str, Any]:
        """Edit the messages up to a checkpoint or other keys of its state, as a new checkpoint that becomes the head.

        `checkpoint_id` is that of the checkpoint to edit; `None`: the head, whichever that is by then.
        `new_messages` are Responses input items. One with the `id` of a message there replaces it, one without is
        appended; `remove_messages` lists ids. The edited checkpoint, and all that followed it, stay as they are.
        What runs next follows from the last message: a user's is answered by the next replay, a tool's result goes on
        to the model, an assistant's completes the turn. `values` are other keys of the graph's state, as JSON: each is
        given to the key's reducer, and alone they leave what runs next, and who is waited for, as it is. `as_node`
        overrides that: it is the step in whose name the edit is made, and what runs next is what would run after it.
        `as_node="__copy__"`, alone, copies the checkpoint as it is.

        Returns `thread_id`, the new `checkpoint_id`, its `parent_checkpoint_id`, and `next_nodes`.

        Raises:
            CheckpointNotFound: the thread has no such checkpoint.
            InvalidRequest: nothing would change, there is no message or step of that name, or a tool call would be
                parted from its result.
        """
        check_id(thread_id, "thread_id")
        if checkpoint_id is not None:
            check_id(checkpoint_id, "checkpoint_id")
        messages = await self._read_messages(new_messages)
        removed = [] if remove_messages is None else remove_messages
        if not isinstance(removed, list) or not all(isinstance(message_id, str) for message_id in removed):
            raise InvalidRequest("remove_messages must be a list of message ids.", param="remove_messages")
        check_size(values, self.settings.max_input_bytes)
        is_edit = bool(messages or removed or values)
        if is_edit == (as_node == COPY):
            raise InvalidRequest(
                'An edit needs new_messages, remove_messages or values; as_node="__copy__" takes none of them.',
                param="as_node" if is_edit else "new_messages",
            )
        changed = state_values(self.store.graph, values or {})
        graph, saver = await self.store.graph_with_saver()
        attempt = self.attempt or Attempt.unrecorded()
        async with saver.lease(thread_id, checkpoint_id, self._identified(), attempt):
            return await edit(graph, saver, messages, removed, changed, as_node)

    update_checkpoint_state = blocking(aupdate_checkpoint_state)

    @operation
    async def alist_branches(self, thread_id: str) -> list[dict[str, Any]]:
        """List the tips of a thread, newest first, as entries of its history.

        Each has also `left_others_at`, the checkpoint at which its branch left the others (None where there are no
        others, or they have different roots), and `is_head`.

        Raises:
            ThreadNotFound: there is no such thread.
        """
        pool, stored_id = await self._open_thread(thread_id)
        tips = await history.branches(pool, self.store.cipher, stored_id)
        return Tree(tip | {"thread_id": thread_id} for tip in tips)

    list_branches = blocking(alist_branches)

    @operation
    async def alist_input_items(self, response_id: str) -> list[dict[str, Any]]:
        """List what a response answers: the items that its turn began with, beside what the thread held already.

        Raises:
            ResponseNotFound: there is no such response in any thread.
        """
        check_id(response_id, "response_id")
        found = await threads.find_response(await self.database.pool(), response_id, self._identified())
        if found is None:
            raise ResponseNotFound(param="response_id")
        _, saver = await self.store.graph_with_saver()
        checkpoint = await saver.load(found["thread_id"], found["first_checkpoint_id"])
        assert checkpoint
        messages = history.input_messages(checkpoint)
        return to_items([message for message in messages if not isinstance(message, RemoveMessage)])

    list_input_items = blocking(alist_input_items)

    @operation
    async def adelete_item(self, thread_id: str, item_id: str) -> dict[str, Any]:
        """Take an item out of the conversation as it is at the head: an edit, so the past stays in the tree.

        `item_id` is the `id` of one of the state's `messages`. A function call and its output go together. Returns the
        same as `aupdate_checkpoint_state`.

        Raises:
            ThreadNotFound: there is no such thread.
            ItemNotFound: there is no such item.
        """
        check_id(thread_id, "thread_id")
        check_id(item_id, "item_id")
        graph, saver = await self.store.graph_with_saver()
        attempt = self.attempt or Attempt.unrecorded()
        async with saver.lease(thread_id, None, self._identified(), attempt) as base:
            assert base
            replaced, removed = without_item([*messages_at(base), *history.pending_messages(base)], item_id)
            return await edit(graph, saver, replaced, removed, {}, None)

    delete_item = blocking(adelete_item)

    # -- Threads ---------------------------------------------------------------------------------------------------

    @operation
    async def acreate_thread(
        self,
        thread_id: str | None = None,
        new_messages: list[dict[str, Any]] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Begin a thread without taking a turn: with these messages, Responses input items, or with none.

        `metadata` is noted of the thread: a JSON object. Returns the same as `aget_thread`.

        Raises:
            ThreadExists: there is a thread of that id.
        """
        thread_id = str(uuid.uuid4()) if thread_id is None else check_id(thread_id, "thread_id")
        messages = await self._read_messages(new_messages)
        noted = {} if metadata is None else check_metadata(metadata)
        user, attempt = self._identified(), self.attempt or Attempt.unrecorded()
        graph, saver = await self.store.graph_with_saver()
        async with saver.lease(thread_id, None, user, attempt, may_begin=True) as base:
            if base:
                raise ThreadExists(param="thread_id")
            await begin_thread(graph, saver, messages)
        pool = await self.database.pool()
        if noted:
            await threads.update_metadata(pool, self.store.cipher, saver.thread_id, noted)
        return await threads.read_thread(pool, self.store.cipher, user, saver.thread_id)

    create_thread = blocking(acreate_thread)

    @operation
    async def aget_thread(self, thread_id: str) -> dict[str, Any]:
        """A thread, as an entry of `alist_threads`.

        Raises:
            ThreadNotFound: there is no such thread.
        """
        pool, stored_id = await self._open_thread(thread_id)
        return await threads.read_thread(pool, self.store.cipher, self._identified(), stored_id)

    get_thread = blocking(aget_thread)

    @operation
    async def aupdate_thread(self, thread_id: str, metadata: dict[str, Any]) -> dict[str, Any]:
        """Note something of a thread, in the place of what was noted before: a JSON object, such as its title.

        Returns the same as `aget_thread`.

        Raises:
            ThreadNotFound: there is no such thread.
        """
        noted = check_metadata(metadata)
        pool, stored_id = await self._open_thread(thread_id)
        await threads.update_metadata(pool, self.store.cipher, stored_id, noted)
        return await threads.read_thread(pool, self.store.cipher, self._identified(), stored_id)

    update_thread = blocking(aupdate_thread)

    @operation
    async def alist_threads(self, limit: int = 10, before: str | None = None) -> list[dict[str, Any]]:
        """List threads, the one last touched first, at most `limit` (1 to 1000) of them.

        `before` is the `updated_at` that the page before ended with. Each has `thread_id`, `created_at` and
        `updated_at` (ISO 8601, UTC), the `metadata` that was noted of it, its `title` (that of the metadata, else the
        beginning of its first message), its `branch_count` (`null`: an earlier version has written it, and nobody
        since), the `running_response_id` of a turn that is at work on it, and of its head `checkpoint_id`,
        `next_nodes`, `message_count`, `last_message` and `turn`.
        """
        time = None
        if before is not None:
            try:
                time = datetime.fromisoformat(before)
            except (TypeError, ValueError) as error:
                raise InvalidRequest("before must be a time in ISO 8601.", param="before") from error
        check_limit(limit)
        user = self._identified()
        return await threads.list_threads(await self.database.pool(), self.store.cipher, user, limit, time)

    list_threads = blocking(alist_threads)

    @operation
    async def acopy_thread(self, thread_id: str) -> dict[str, Any]:
        """Copy a thread with all its branches. Its checkpoints keep their ids.

        Returns the copy's `thread_id`, the `checkpoint_id` of its head, and `copied_from`.

        Raises:
            ThreadNotFound: there is no such thread.
        """
        pool, stored_id = await self._open_thread(thread_id)
        name = str(uuid.uuid4())
        head = await copy_thread(pool, self.store.cipher, stored_id, stored_ids(self._identified(), name)[0])
        return {"thread_id": name, "checkpoint_id": head, "copied_from": thread_id}

    copy_thread = blocking(acopy_thread)

    @operation
    async def adelete_thread(self, thread_id: str) -> dict[str, Any]:
        """Delete a thread: every row of it, for good. A turn that runs on it ends with `ThreadDeleted`.

        Returns `thread_id`, and how many `checkpoints`, `blobs` and `writes` were deleted.

        Raises:
            ThreadNotFound: there is no such thread.
        """
        return {"thread_id": thread_id, **await threads.delete_thread(*await self._open_thread(thread_id))}

    delete_thread = blocking(adelete_thread)

    @operation
    async def aprune(self, older_than_days: float) -> dict[str, Any]:
        """Delete the checkpoints of all threads that are older than so many days; every thread keeps its head.

        Returns in how many `threads`, and how many `checkpoints`, `blobs` and `writes` were deleted.
        """
        if isinstance(older_than_days, bool) or not isinstance(older_than_days, int | float):
            raise InvalidRequest("older_than_days must be a number.", param="older_than_days")
        if not 0 <= older_than_days <= 100_000:
            raise InvalidRequest("older_than_days must be from 0 to 100000.", param="older_than_days")
        user = self._identified()
        return dict(await threads.prune(await self.database.pool(), user, older_than_days * 24 * 60 * 60))

    prune = blocking(aprune)

    # -- In a request ----------------------------------------------------------------------------------------------

    async def aoperate(self, operation: Any, arguments: dict[str, Any]) -> Any:
        """Call the operation of that name.

        Raises:
            InvalidRequest: there is none of that name, or it does not take these arguments.
        """
        self._identified()  # whoever is not gets no other answer
        if not isinstance(operation, str) or operation not in OPERATIONS:
            names = ", ".join(OPERATIONS)
            raise InvalidRequest(f"Unknown operation {operation!r}: there are {names}.", param="operation")
        method = OPERATIONS[operation]
        try:
            inspect.signature(method).bind(self, **arguments)
        except TypeError as error:
            raise InvalidRequest(f"{operation}: {error}.", param="operation") from error
        return await method(self, **arguments)

    async def _read_messages(self, items: list[dict[str, Any]] | None, name: str = "new_messages") -> list[AnyMessage]:
        """Items as messages; `name` is what an error calls them."""

        def read() -> list[AnyMessage]:
            check_count(items, self.settings.max_input_items, name)
            check_size(items, self.settings.max_input_bytes)
            messages = to_messages([] if items is None else items, name)
            check_storable(messages)
            return messages

        return await compute(read, items)

    def _identified(self) -> User:
        """The user that the agent acts for."""
        return identify(self.user, None, self.settings.trusted_identity)

    async def _open_thread(self, thread_id: Any) -> tuple[Pool, str]:
        """The pool of connections, and the id under which a thread is stored that the user may reach."""
        check_id(thread_id, "thread_id")
        user = self._identified()
        pool = await self.database.pool()
        return pool, await threads.find_thread(pool, thread_id, user)
