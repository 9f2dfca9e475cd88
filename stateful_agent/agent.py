"""`LangGraphResponsesAgent`: a LangGraph agent with time travel, as an MLflow model.

A conversation is a tree of checkpoints in Postgres. A turn continues from one of them: the head of its thread, or
whichever the caller names, and that is a fork.
"""

import atexit
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import mlflow
from langchain_core.messages import BaseMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from mlflow.entities import SpanType
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from stateful_agent.checkpoints.lease import Leases
from stateful_agent.checkpoints.message_log import Memory
from stateful_agent.checkpoints.saver import TurnSaver, at
from stateful_agent.checkpoints.serializer import Serializer, declared_types
from stateful_agent.database.pool import Database
from stateful_agent.errors import AgentError, NothingToResume, TooManySteps, typed
from stateful_agent.event_loop import AgentLoop, on_loop
from stateful_agent.graph.build import CompiledGraph, ModelSettings, check_graph, model_settings
from stateful_agent.identity import as_caller_of
from stateful_agent.responses.events import ResponseEvents, error_event
from stateful_agent.responses.output import Event
from stateful_agent.responses.request import read_request
from stateful_agent.responses.transcript import continuation
from stateful_agent.runs.attempt import new_response_id, note_begun
from stateful_agent.settings import Settings
from stateful_agent.time_travel import history
from stateful_agent.time_travel.edit import conclude, fork_with_results
from stateful_agent.time_travel.operations import TimeTravel
from stateful_agent.time_travel.threads import place_of_response
from stateful_agent.turn import Turn, accept, has_results, mend, messages_at, operation_of, resolve, tool_items_of

Request: TypeAlias = ResponsesAgentRequest | dict[str, Any]
Graph = StateGraph[Any, Any, Any, Any] | CompiledGraph


class LangGraphResponsesAgent(TimeTravel, ResponsesAgent):
    """Any LangGraph graph whose state has `messages`, as a model that remembers, forks and travels in time.

    Every method comes twice: as a coroutine named `a...`, and plain, for callers from any thread or notebook. All
    of the work is done on one event loop that the agent owns. The methods of `TimeTravel` can be called in a request
    as well: `custom_inputs` with an `operation`, their arguments beside it.
    """

    def __init__(self, graph: Graph | Callable[[], Graph], settings: Settings | None = None) -> None:
        """`graph` may be a function that builds the graph: it is called once, when the agent is first used."""
        self.settings = settings or Settings()
        self.loop = AgentLoop()
        self.storage = Database(self.settings)
        self._graph = graph
        self._compiled: CompiledGraph | None = None
        self._leases: Leases | None = None
        self._memory: Memory
        self._serde: Serializer  # comes with the graph: it reads the types that the graph declares
        atexit.register(self.close)

    @property
    def answers_from(self) -> str:
        """What answers, in words: the name that the graph was compiled with."""
        name = self._compile().get_name()
        return "a graph of your own" if name == "LangGraph" else name

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
        last `checkpoint_id`, and the `parent_checkpoint_id` that it continued from; or the `result` of an operation.

        Raises:
            AgentError: one of its subclasses in `errors.py` says what was wrong and what to do.
        """
        events = [event async for event in self.loop.aiterate(self._turn(request, for_mlflow=True))]
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

    def aevents(self, request: Request) -> AsyncIterator[Event]:
        """The events of `apredict_stream` as JSON objects, on the agent's own loop. The server's way in: MLflow's types
        lack some of OpenAI's.

        Raises:
            AgentError: at any point.
        """
        return self._turn(request, for_mlflow=False)

    async def _speak(self, request: Request) -> AsyncIterator[Event]:
        """The turn's events for MLflow. An error ends a stream that has begun with an event of its own."""
        begun = 0
        try:
            async for event in self._turn(request, for_mlflow=True):
                begun += 1
                yield event
        except AgentError as error:
            if not begun:
                raise
            yield error_event(error, sequence_number=begun)

    async def _turn(self, request: Request, *, for_mlflow: bool) -> AsyncIterator[Event]:
        """One turn, from the request to the disk and back, `for_mlflow` in what its types can hold."""
        with mlflow.start_span("turn", span_type=SpanType.AGENT) as span:
            request = read_request(request)
            span.set_inputs(request.model_dump(exclude_none=True))
            events = ResponseEvents(
                new_response_id(),
                int(time.time()),
                "stateful-agent",
                tool_items=tool_items_of(request, self.settings.tool_items, for_mlflow=for_mlflow),
                metadata=request.metadata,
                previous_response_id=request.previous_response_id,
            )
            try:
                with as_caller_of(request, self.settings.trusted_identity):
                    if operation := operation_of(request):
                        name, arguments = operation
                        place = {key: arguments[key] for key in ("thread_id",) if key in arguments}
                        for event in events.complete(place | {"result": await self.aoperate(name, arguments)}):
                            yield event
                        return
                    turn = accept(request, max_input_bytes=self.settings.max_input_bytes)
                    async for event in self._run(turn, events):
                        yield event
            except Exception as error:
                raise typed(error) from error
            span.set_outputs(event["response"])

    async def _run(self, turn: Turn, events: ResponseEvents) -> AsyncIterator[Event]:
        asked = model_settings(self._compile(), turn.asks)
        if not turn.place.is_given:  # not to be stored
            async for event in self._stream(self._copy(None), {"messages": turn.messages}, {}, asked, events):
                yield event
            for event in events.complete({}):
                yield event
            return

        graph, saver = await self.graph_on_disk()
        try:
            config, graph_input = await self._begin(turn, graph, saver)
            note_begun()
            custom_outputs = {"thread_id": config["configurable"]["thread_id"]}
            if saver.base:
                custom_outputs["parent_checkpoint_id"] = saver.base.config["configurable"]["checkpoint_id"]
            replayed = messages_at(saver.base) if saver.base and graph_input is None else ()
            events.begin(dict(custom_outputs), replayed)
            if mlflow.get_current_active_span():  # not all turns are traced
                mlflow.update_current_trace(metadata={"mlflow.trace.session": custom_outputs["thread_id"]})
            config["metadata"] = {"response_id": events.id}  # noted beside each checkpoint of the turn
            async for event in self._stream(graph, graph_input, config, asked, events, saver):
                yield event
        except Exception as error:
            with suppress(AgentError):  # what failed first is what is said
                await saver.release()
            raise typed(error, is_stored=saver.last_checkpoint_id is not None) from error
        finally:
            await saver.release()
        for event in events.complete(custom_outputs | {"checkpoint_id": saver.last_checkpoint_id}):
            yield event

    async def _begin(
        self, turn: Turn, graph: CompiledGraph, saver: TurnSaver
    ) -> tuple[RunnableConfig, dict[str, Any] | None]:
        """Take the thread. Returns where the turn continues from, and the graph's input: `None` for a replay."""
        pool = await self.storage.pool()
        thread_id, checkpoint_id, begins = str(turn.place.thread_id), turn.place.checkpoint_id, turn.place.begins
        if turn.place.previous_response_id:
            thread_id, checkpoint_id = await place_of_response(pool, turn.place.previous_response_id)
        base = await saver.take(thread_id, checkpoint_id, begins=begins, patience=self.settings.thread_timeout)

        if not (turn.messages or turn.refers):
            if base is None or not (checkpoint_id or history.next_nodes(graph, base.checkpoint)):
                raise NothingToResume(param="input")
            if checkpoint_id and has_results(base):
                await fork_with_results(graph, saver)
                checkpoint_id = None  # LangGraph resumes at the head, but runs everything anew where it is told an id
            return at(thread_id, checkpoint_id), None

        if base is None:
            return at(thread_id), {"messages": resolve(turn, [])}
        unfinished = mend(base, at_head=checkpoint_id is None)
        thread = [*messages_at(base), *unfinished]
        resent = continuation(thread, resolve(turn, thread))
        messages: list[BaseMessage] = list(resent.new)
        if resent.after is not None:
            unfinished = []
            if departed_at := await history.ancestor_with(pool, base, resent.after):
                checkpoint_id = departed_at
                await saver.load(thread_id, departed_at)
            else:  # within a turn, or where it was pruned
                messages = [*(RemoveMessage(str(m.id)) for m in messages_at(base)[resent.after :]), *messages]
        if not messages:
            raise NothingToResume("The thread holds all of this input already: add a message.", param="input")
        return at(thread_id, checkpoint_id), {"messages": [*unfinished, *messages]}

    async def _stream(
        self,
        graph: CompiledGraph,
        graph_input: dict[str, Any] | None,
        config: RunnableConfig,
        asked: ModelSettings | None,
        events: ResponseEvents,
        saver: TurnSaver | None = None,
    ) -> AsyncIterator[Event]:
        """Run the graph and say what it says. That something is done is said once it is on disk."""
        config["recursion_limit"] = self.settings.max_steps
        chunks: Any = graph.astream(graph_input, config, context=asked, stream_mode=["messages", "updates"])
        try:
            async for mode, chunk in chunks:
                # In `updates` a step has ended; if it was the last one, all of it is stored when the thread is let go.
                if events.waits and (mode == "messages" or events.goes_on):
                    if saver:
                        await saver.flush()
                    for event in events.stored():
                        yield event
                if mode == "messages":
                    message, metadata = chunk
                    for event in events.feed(message, metadata["langgraph_checkpoint_ns"]):
                        yield event
        except GraphRecursionError as error:
            if saver is None:
                raise TooManySteps() from error
            words = f"I stopped here: this has taken {self.settings.max_steps} steps, and I may take no more."
            for event in events.feed(await conclude(graph, saver, config, words), ""):
                yield event

    # -- Life ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Build the graph and connect to the database now instead of at the first request."""
        self.loop.run(self.aopen())

    @on_loop
    async def aopen(self) -> None:
        """Build the graph and connect to the database now instead of at the first request.

        Raises:
            Misconfigured: there is no such model, it lacks a credential, the graph cannot be served, or the encryption
                key does not fit.
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

    async def graph_on_disk(self) -> tuple[CompiledGraph, TurnSaver]:
        """The graph with a saver of its own: a shared one's lock would serialise the whole pool."""
        pool = await self.storage.pool()
        if self._leases is None or self._leases.pool is not pool:
            self._leases, self._memory = Leases(pool), Memory()
        label = functools.partial(history.label, self._compile())
        saver = TurnSaver(pool, self._leases, self._memory, label, self._serde)
        return self._copy(saver), saver

    def _copy(self, saver: TurnSaver | None) -> CompiledGraph:
        return self._compile().copy({"checkpointer": saver})

    def _compile(self) -> CompiledGraph:
        """The graph, compiled once; a turn takes a copy, which is cheap."""
        if self._compiled is None:
            graph = self._graph if isinstance(self._graph, StateGraph | CompiledStateGraph) else self._graph()
            compiled = graph.compile() if isinstance(graph, StateGraph) else graph
            check_graph(compiled)
            self._serde = Serializer(self.settings, declared_types(compiled))
            self._compiled = compiled
        return self._compiled
