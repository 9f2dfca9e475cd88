"""The served model: a LangGraph agent with time travel.

A conversation is a tree of checkpoints in Postgres. A turn continues from one of them: the head of its thread, or
whichever the caller names, and that is a fork.
"""

import atexit
import functools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import mlflow
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from mlflow.entities import SpanType
from mlflow.models import set_model
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from stateful_agent import history
from stateful_agent.errors import AgentError, NothingToResume, typed
from stateful_agent.graph import build_graph
from stateful_agent.loop import AgentLoop, on_loop
from stateful_agent.messages import to_messages
from stateful_agent.models import chat_model
from stateful_agent.responses import Event, ResponseEvents, error_event
from stateful_agent.saver import TurnSaver, at
from stateful_agent.settings import Settings
from stateful_agent.storage import Storage
from stateful_agent.tools import agent_tools
from stateful_agent.turn import Turn, accept, check_id, check_limit, check_size, mend, read_request

Request: TypeAlias = ResponsesAgentRequest | dict[str, Any]
Compiled = CompiledStateGraph[Any, Any, Any, Any]
Graph = StateGraph[Any, Any, Any, Any] | Compiled


class LangGraphResponsesAgent(ResponsesAgent):
    """Any LangGraph graph whose state has `messages`, as a model that remembers, forks and travels in time.

    Every method comes twice: as a coroutine named `a...`, and plain, for callers from any thread or notebook. All
    of the work is done on one event loop that the agent owns.
    """

    def __init__(self, graph: Graph | Callable[[], Graph], settings: Settings | None = None) -> None:
        """`graph` may be a function that builds the graph: it is called once, when the agent is first used."""
        self.settings = settings or Settings()
        self.loop = AgentLoop()
        self.storage = Storage(self.settings)
        self._graph = graph
        self._compiled: Compiled | None = None
        atexit.register(self.close)

    # -- A turn ----------------------------------------------------------------------------------------------------

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        """Answer a request. See `apredict`."""
        return self.loop.run(self.apredict(request))

    def predict_stream(self, request: ResponsesAgentRequest) -> Iterator[ResponsesAgentStreamEvent]:
        """Answer a request, token by token. See `apredict_stream`."""
        for event in self.loop.iterate(self._speak(request)):
            yield ResponsesAgentStreamEvent(**event)

    async def apredict(self, request: Request) -> ResponsesAgentResponse:
        """Answer a request, an MLflow `ResponsesAgentRequest` or its JSON form.

        `custom_inputs` may hold the `thread_id` of a conversation to continue and a `checkpoint_id` in it to continue
        from; without input, what was pending there runs again. `custom_outputs` holds the `thread_id`, the turn's own
        last `checkpoint_id`, and the `parent_checkpoint_id` that it continued from.

        Raises:
            AgentError: one of its subclasses in `errors.py` says what was wrong and what to do.
        """
        events = [event async for event in self.loop.aiterate(self._turn(request))]
        return ResponsesAgentResponse(**events[-1]["response"])

    async def apredict_stream(self, request: Request) -> AsyncIterator[ResponsesAgentStreamEvent]:
        """Answer a request with the events of the OpenAI Responses API, as they happen.

        The last one, `response.completed`, holds the whole response and the same `custom_outputs` as `apredict`'s.
        The turn runs to its end and is stored even if the caller stops listening.

        Raises:
            AgentError: before the first event. Later, an `error` event ends the stream.
        """
        async for event in self.loop.aiterate(self._speak(request)):
            yield ResponsesAgentStreamEvent(**event)

    def aevents(self, request: Request) -> AsyncIterator[list[Event]]:
        """The events of `apredict_stream` as JSON objects, in batches of what has come up. The server's way in."""
        return self.loop.abatches(self._speak(request))

    async def _speak(self, request: Request) -> AsyncIterator[Event]:
        """The turn's events. An error ends a stream that has begun with an event of its own."""
        begun = 0
        try:
            async for event in self._turn(request):
                begun += 1
                yield event
        except AgentError as error:
            if not begun:
                raise
            yield error_event(error, sequence_number=begun)

    async def _turn(self, request: Request) -> AsyncIterator[Event]:
        """One turn, from the request to the disk and back."""
        with mlflow.start_span("turn", span_type=SpanType.AGENT) as span:
            request = read_request(request)
            span.set_inputs(request.model_dump(exclude_none=True))
            turn = accept(request, max_input_bytes=self.settings.max_input_bytes)
            events = ResponseEvents(f"resp_{uuid.uuid4().hex}", int(time.time()), "stateful-agent")
            try:
                async for event in self._run(turn, events):
                    yield event
            except Exception as error:
                raise typed(error) from error
            span.set_outputs(event["response"])

    async def _run(self, turn: Turn, events: ResponseEvents) -> AsyncIterator[Event]:
        if turn.thread_id is None:  # not to be stored
            async for event in self._stream(self._copy(None), {"messages": turn.messages}, {}, events):
                yield event
            for event in events.complete({}):
                yield event
            return

        if mlflow.get_current_active_span():  # not all turns are traced
            mlflow.update_current_trace(metadata={"mlflow.trace.session": turn.thread_id})
        graph, saver = await self._graph_on_disk()
        base = await saver.load(turn.thread_id, turn.checkpoint_id)
        config = at(turn.thread_id, turn.checkpoint_id)
        if turn.messages:
            unfinished = mend(base, at_head=turn.checkpoint_id is None) if base else []
            graph_input = {"messages": [*unfinished, *turn.messages]}
        else:
            graph_input = None  # whatever is pending there runs
            if turn.checkpoint_id is None and not (base and (await graph.aget_state(config)).tasks):
                raise NothingToResume(param="input")
        try:
            async for event in self._stream(graph, graph_input, config, events):
                yield event
        finally:
            await saver.flush()

        custom_outputs = {"thread_id": turn.thread_id, "checkpoint_id": saver.last_checkpoint_id}
        if base:
            custom_outputs["parent_checkpoint_id"] = base.config["configurable"]["checkpoint_id"]
        for event in events.complete(custom_outputs):
            yield event

    async def _stream(
        self, graph: Compiled, graph_input: dict[str, Any] | None, config: Any, events: ResponseEvents
    ) -> AsyncIterator[Event]:
        chunks: AsyncIterator[Any] = graph.astream(graph_input, config, stream_mode="messages")
        async for message, metadata in chunks:
            for event in events.feed(message, metadata["langgraph_checkpoint_ns"]):
                yield event

    # -- Time travel -----------------------------------------------------------------------------------------------

    def get_checkpoint_history(
        self, thread_id: str, limit: int = 10, before: str | None = None
    ) -> list[dict[str, Any]]:
        """List a thread's checkpoints. See `aget_checkpoint_history`."""
        return self.loop.run(self.aget_checkpoint_history(thread_id, limit, before))

    @on_loop
    async def aget_checkpoint_history(
        self, thread_id: str, limit: int = 10, before: str | None = None
    ) -> list[dict[str, Any]]:
        """List a thread's checkpoints of all branches, newest first, at most `limit` (1 to 1000) of them.

        `before` is the checkpoint_id that the page before ended with. Each entry has `checkpoint_id`,
        `parent_checkpoint_id`, `thread_id`, `timestamp` (ISO 8601, UTC), `next_nodes`, `message_count`,
        `last_message` (its first 100 characters), `source` and `step`.

        Raises:
            ThreadNotFound: there is no such thread.
        """
        check_id(thread_id, "thread_id")
        if before is not None:
            check_id(before, "before")
        graph, _ = await self._graph_on_disk()
        return await history.checkpoint_history(graph, thread_id, check_limit(limit), before)

    def update_checkpoint_state(
        self, thread_id: str, checkpoint_id: str, new_messages: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Edit the past. See `aupdate_checkpoint_state`."""
        return self.loop.run(self.aupdate_checkpoint_state(thread_id, checkpoint_id, new_messages))

    @on_loop
    async def aupdate_checkpoint_state(
        self, thread_id: str, checkpoint_id: str, new_messages: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Add `new_messages` (Responses input items) at a checkpoint, as a new checkpoint that becomes the head.

        The one edited, and all that followed it, stay as they are. Returns `thread_id`, the new `checkpoint_id`, its
        `parent_checkpoint_id`, and `next_nodes`: a user's message is answered by the next replay.

        Raises:
            CheckpointNotFound: the thread has no such checkpoint.
            InvalidRequest: nothing is added, or a tool call would be left without its result.
        """
        check_id(thread_id, "thread_id")
        check_id(checkpoint_id, "checkpoint_id")
        check_size(new_messages, self.settings.max_input_bytes)
        messages = to_messages(new_messages or [])
        graph, saver = await self._graph_on_disk()
        await saver.load(thread_id, checkpoint_id)
        return await history.edit(graph, thread_id, checkpoint_id, messages)

    # -- Life ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Build the graph and connect to the database now instead of at the first request."""
        self.loop.run(self.aopen())

    @on_loop
    async def aopen(self) -> None:
        """Build the graph and connect to the database now instead of at the first request.

        Raises:
            Misconfigured: there is no such model, or it lacks a credential.
            StorageUnavailable: the database cannot be reached.
        """
        self._compile()
        await self.storage.pool()

    def close(self) -> None:
        """End what runs, and close the database. The agent opens again at its next use."""
        if self.loop.is_started:  # when the interpreter exits, it starts no more threads
            self.loop.run(self.aclose())

    @on_loop
    async def aclose(self) -> None:
        """End what runs, and close the database. The agent opens again at its next use."""
        await self.loop.cancel_work()
        await self.storage.close()

    async def _graph_on_disk(self) -> tuple[Compiled, TurnSaver]:
        """The graph with a saver of its own: a shared one's lock would serialise the whole pool."""
        saver = TurnSaver(await self.storage.pool(), functools.partial(history.label, self._compile()))
        return self._copy(saver), saver

    def _copy(self, saver: TurnSaver | None) -> Compiled:
        return self._compile().copy({"checkpointer": saver})

    def _compile(self) -> Compiled:
        """The graph, compiled once; a turn takes a copy, which is cheap."""
        if self._compiled is None:
            graph = self._graph if isinstance(self._graph, StateGraph | CompiledStateGraph) else self._graph()
            self._compiled = graph.compile() if isinstance(graph, StateGraph) else graph
        return self._compiled


def default_graph() -> Graph:
    """The graph that this file serves: the built-in agent, with the model and the tools of the settings."""
    settings = Settings()
    tools = agent_tools(settings.tavily_api_key)
    return build_graph(chat_model(settings.agent_model), tools, settings.agent_system_prompt)


AGENT = LangGraphResponsesAgent(default_graph)
set_model(AGENT)
