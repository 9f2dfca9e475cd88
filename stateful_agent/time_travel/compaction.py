"""Compaction: a conversation made shorter. It is a checkpoint too, so the whole conversation stays in the tree."""

import time
import uuid
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage
from mlflow.types.responses import ResponsesAgentRequest

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.checkpoints.langgraph_internals import next_nodes
from stateful_agent.errors import InvalidRequest
from stateful_agent.event_loop import blocking, on_loop
from stateful_agent.graph.schemas import heeds_settings
from stateful_agent.identity import identify
from stateful_agent.responses.compaction import (
    QUESTION,
    compaction_item,
    compaction_response,
    shortened,
    summary_in,
)
from stateful_agent.responses.messages import check_pairs, to_items, unanswered_calls
from stateful_agent.responses.request import read_request
from stateful_agent.responses.thread_ref import check_id, thread_ref_of
from stateful_agent.responses.types import Response
from stateful_agent.time_travel.edit import edit
from stateful_agent.time_travel.operations import TimeTravel, operation
from stateful_agent.time_travel.threads import locate
from stateful_agent.turn import messages_at


class Compaction(TimeTravel):
    """The methods of an agent that make a conversation shorter."""

    @abstractmethod
    async def _answer_to(self, messages: Sequence[AnyMessage], model_settings: dict[str, Any]) -> Response:
        """What the graph answers to messages. Nothing is stored."""

    @operation
    async def acompact_thread(
        self,
        thread_id: str,
        checkpoint_id: str | None = None,
        new_messages: list[dict[str, Any]] | None = None,
        instructions: str | None = None,
    ) -> dict[str, Any]:
        """Make a conversation shorter: the user's messages stay, and a summary of the model's stands for the rest.

        It is done at a checkpoint where a turn is complete, else at the head; `new_messages`, Responses input items,
        are added before. The model is told `instructions` as in a turn. The shorter conversation is a new checkpoint
        that becomes the head; the one that it was made from, and all before it, stay as they are.

        Returns `thread_id`, the new `checkpoint_id`, its `parent_checkpoint_id`, `next_nodes`, the `response_id` by
        which a request can go on from it, `messages` as items, and `usage`, what the summary took.

        Raises:
            CheckpointNotFound: the thread has no such checkpoint.
            InvalidRequest: a turn is not complete there, or the graph cannot be told to summarize.
            ModelFailed: it gave no whole summary.
        """
        check_id(thread_id, "thread_id")
        if checkpoint_id is not None:
            check_id(checkpoint_id, "checkpoint_id")
        given = await self._messages([] if new_messages is None else new_messages, "new_messages")
        graph, saver = await self.store.graph_with_saver()
        response_id = f"resp_{uuid.uuid4().hex}"
        attempt = self.attempt or Attempt.unrecorded()
        async with saver.lease(thread_id, checkpoint_id, self._identified(), attempt) as base:
            assert base
            messages = messages_at(base)
            if next_nodes(graph, base.checkpoint) or unanswered_calls([*messages, *given]):
                raise InvalidRequest("A turn is not complete there: compact a conversation between turns.")
            summary, usage = await self._summary([*messages, *given], instructions)
            removed = [str(message.id) for message in messages if not isinstance(message, HumanMessage)]
            # The graph has given them ids, by which an edit names messages of the thread.
            added = [message.model_copy(update={"id": None}) for message in shortened(given, summary)]
            edited = await edit(graph, saver, added, removed, {}, None, noted={"response_id": response_id})
            kept = [*(message for message in messages if message.id not in removed), *added]
        return edited | {"response_id": response_id, "messages": to_items(kept), "usage": usage}

    compact_thread = blocking(acompact_thread)

    @on_loop
    async def acompact(self, body: ResponsesAgentRequest | dict[str, Any]) -> Response:
        """Answer a request for compaction, which names a thread or holds the whole conversation as `input`.

        The `output` is the user's messages and an item of type `compaction`, which together stand for the conversation
        as the input of other requests. Where a thread is named, it is made shorter too; see `acompact_thread`.

        Raises: the same.
        """
        request = read_request(body)
        thread = thread_ref_of(request)
        user = identify(self.user, request.context, self.settings.trusted_identity)
        created_at = int(time.time())
        if thread is None:
            given = await self._messages(request.input, "input")
            summary, usage = await self._summary(given, request.instructions)
            response_id, items = f"resp_{uuid.uuid4().hex}", to_items(shortened(given, summary))
            outputs = {}
        else:
            thread_id, checkpoint_id = await locate(await self.database.pool(), thread, user)
            view = self.as_user(user)
            done = await view.acompact_thread(thread_id, checkpoint_id, request.input, request.instructions)
            response_id, items, usage = done["response_id"], done["messages"], done["usage"]
            outputs = {name: done[name] for name in ("thread_id", "checkpoint_id", "parent_checkpoint_id")}
        *users, last = items
        users = [item | {"id": item["id"] or f"msg_{uuid.uuid4().hex}"} for item in users]
        output = [*users, compaction_item(f"cmp_{uuid.uuid4().hex}", last["content"][0]["text"])]
        return compaction_response(response_id, created_at, output, usage, outputs)

    async def _messages(self, items: list[dict[str, Any]], name: str) -> list[AnyMessage]:
        """Items as messages that have no ids yet."""
        messages = await self._read_messages(items, name)
        check_pairs(messages)
        for message in messages:
            message.id = None
        return messages

    async def _summary(self, messages: list[AnyMessage], instructions: str | None) -> tuple[str, Any]:
        """What the model makes of a conversation, and what that took."""
        if not heeds_settings(self.store.graph):
            raise InvalidRequest(
                "The graph of this agent cannot be told to summarize and to leave its tools alone: build it with "
                "ModelSettings as its context_schema, and heed them."
            )
        if all(isinstance(message, HumanMessage) for message in messages):
            raise InvalidRequest("There is nothing to compact: the conversation has no answer yet.", param="input")
        asked = {"tool_choice": "none"} | ({"instructions": instructions} if instructions else {})
        response = await self._answer_to([*messages, HumanMessage(QUESTION)], asked)
        return summary_in(response), response["usage"]
