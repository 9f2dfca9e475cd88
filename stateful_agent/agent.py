"""`LangGraphResponsesAgent`: a LangGraph agent with time travel, as an MLflow model.

A conversation is a tree of checkpoints in Postgres. A turn continues from one of them: the head of its thread, or
whichever checkpoint the caller names. From a checkpoint that has children already, that is a fork.
"""

import atexit
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import mlflow
from langchain_core.messages import AnyMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError, is_invalid_resume
from langgraph.types import Command, StreamMode
from mlflow.entities import SpanType
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.checkpoints.langgraph_internals import next_nodes
from stateful_agent.checkpoints.reader import config_at
from stateful_agent.checkpoints.saver import TurnSaver, is_refused
from stateful_agent.checkpoints.store import CheckpointStore, Graph
from stateful_agent.checkpoints.tables import database_for
from stateful_agent.checkpoints.waiting import former_ids, interrupts_at
from stateful_agent.errors import AgentError, TooManySteps
from stateful_agent.event_loop import AgentLoop, on_loop
from stateful_agent.failures import is_refusal, typed
from stateful_agent.graph.answer_end import AnswerEnd
from stateful_agent.graph.answers import noted_of
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.graph.schemas import context_of, input_values, output_keys, tool_names
from stateful_agent.graph.streaming import step_path, written_in
from stateful_agent.heavy_work import compute
from stateful_agent.identity import User, identify
from stateful_agent.memory.embeddings import TextEmbeddings
from stateful_agent.memory.operations import Memories
from stateful_agent.metrics import measured
from stateful_agent.responses.events import ResponseEvents, error_event
from stateful_agent.responses.json_values import as_json
from stateful_agent.responses.limits import check_length
from stateful_agent.responses.request import ResponsesRequest, read_request
from stateful_agent.responses.response import empty_response, response_to
from stateful_agent.responses.thread_ref import ThreadRef
from stateful_agent.responses.types import CustomOutputs, Event, Interrupt, Response, When
from stateful_agent.settings import Settings
from stateful_agent.time_travel.compaction import Compaction
from stateful_agent.time_travel.edit import end_turn
from stateful_agent.time_travel.fork import fork_to_answer, fork_with_results
from stateful_agent.time_travel.history import ancestor_with
from stateful_agent.time_travel.threads import locate
from stateful_agent.traces import (
    ids_beside_checkpoints,
    is_traced,
    note_ids,
    note_request,
    note_response,
    tag_trace,
)
from stateful_agent.turn import Plan, Turn, accept, messages_at, operation_in, plan_turn, tool_items_in

Request: TypeAlias = ResponsesAgentRequest | dict[str, Any]


class LangGraphResponsesAgent(Compaction, Memories, ResponsesAgent):
    """Any LangGraph graph whose state has `messages`, as a model that remembers, forks and travels in time.

    Every method comes twice: as a coroutine named `a...`, and plain, for callers from any thread or notebook. All
    of the work is done on one event loop that the agent owns. The methods of `TimeTravel`, `Compaction` and
    `Memories` can be called in a request as well: `custom_inputs` with an `operation`, their arguments beside it.
    """

    def __init__(self, graph: Graph | Callable[[], Graph], settings: Settings | None = None) -> None:
        """`graph` may be a function that builds the graph: it is called once, when the agent is first used."""
        self.settings = settings or Settings()
        self.loop = AgentLoop()
        self.database = database_for(self.settings)
        self.store = CheckpointStore(graph, self.database, self.settings)
        self.embeddings = TextEmbeddings.of(self.settings)
        self.user: User | None = None
        self.attempt: Attempt | None = None
        atexit.register(self.close)

    # -- Requests --------------------------------------------------------------------------------------------------

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        """Answer a request. See `apredict`."""
        return self.loop.run(self.apredict(request))

    def predict_stream(self, request: ResponsesAgentRequest) -> Iterator[ResponsesAgentStreamEvent]:
        """Answer a request, token by token. See `apredict_stream`."""
        for event in self.loop.iterate(self._mlflow_events(request)):
            yield ResponsesAgentStreamEvent(**event)

    async def apredict(self, request: Request) -> ResponsesAgentResponse:
        """Answer a request, an MLflow `ResponsesAgentRequest` or its JSON form.

        `custom_inputs` may hold the `thread_id` of a conversation to continue and a `checkpoint_id` in it to continue
        from; without input, what was pending there runs again. `custom_outputs` holds the `thread_id`, the turn's own
        last `checkpoint_id`, and the `parent_checkpoint_id` that it continued from; or the `result` of an operation.

        Raises:
            AgentError: one of its subclasses in `errors.py` says what was wrong and what to do.
        """
        events = [event async for event in self.loop.aiterate(self._answer(request, Attempt.unrecorded(), True))]
        return ResponsesAgentResponse(**events[-1]["response"])

    async def apredict_stream(self, request: Request) -> AsyncIterator[ResponsesAgentStreamEvent]:
        """Answer a request with the events of the OpenAI Responses API, as they happen.

        The last one, `response.completed`, holds the whole response and the same `custom_outputs` as `apredict`'s.
        The turn runs to its end and is stored even if the caller stops listening.

        Raises:
            AgentError: before the first event. Later, an `error` event ends the stream.
        """
        async for event in self.loop.aiterate(self._mlflow_events(request)):
            yield ResponsesAgentStreamEvent(**event)

    def aevents(self, request: Request, attempt: Attempt) -> AsyncIterator[Event]:
        """The events of `apredict_stream` as JSON objects, on the agent's own loop, for a run.

        The server answers with these: MLflow's types lack some of OpenAI's. `attempt` is how duplicates of the request
        find the run.

        Raises:
            AgentError: at any point.
        """
        return self._answer(request, attempt, False)

    async def _mlflow_events(self, request: Request) -> AsyncIterator[Event]:
        """The events for MLflow. An error ends a stream that has begun with an event of its own."""
        count = 0
        try:
            async for event in self._answer(request, Attempt.unrecorded(), True):
                count += 1
                yield event
        except AgentError as error:
            if not count:
                raise
            yield error_event(error, sequence_number=count)

    async def _answer(self, body: Request, attempt: Attempt, for_mlflow: bool) -> AsyncIterator[Event]:
        """Take a turn or do an operation, traced, and emit its events, `for_mlflow` in what its types can hold."""
        with mlflow.start_span("turn", span_type=SpanType.AGENT) as span:
            request = read_request(body)
            if is_traced(span):
                await compute(lambda: note_request(span, request.model_dump(exclude_none=True)), request.input)
            events = ResponseEvents(
                response_to(request, attempt.response_id, int(time.time())),
                tool_items=tool_items_in(request, self.settings.tool_items, for_mlflow=for_mlflow),
            )
            try:
                async for event in self._events_for(request, attempt, events):
                    yield event
            except AgentError:
                raise
            except Exception as error:
                raise typed(error) from error
            for step in events.dropped:
                self.store.streams.was_dropped(step_path(step))
            if is_traced(span):
                note_response(span, event["response"])

    async def _events_for(
        self, request: ResponsesRequest, attempt: Attempt, events: ResponseEvents
    ) -> AsyncIterator[Event]:
        user = identify(self.user, request.context, self.settings.trusted_identity)
        if operation := operation_in(request):
            name, arguments = operation
            view = self.as_user(user)
            view.attempt = attempt
            result = await view.aoperate(name, arguments)
            outputs: CustomOutputs = {"thread_id": arguments["thread_id"]} if "thread_id" in arguments else {}
            outputs["result"] = result
            for event in events.complete(outputs, int(time.time())):
                yield event
            return
        limits = {"max_bytes": self.settings.max_input_bytes, "max_items": self.settings.max_input_items}
        turn = await compute(partial(accept, request, attempt.new_thread_id(), **limits), request.input)
        if turn.thread:
            source = self._turn(turn, turn.thread, user, attempt, events)
        else:
            source = self._unstored_turn(turn, events)
        async for event in measured(source):
            yield event

    # -- A turn ----------------------------------------------------------------------------------------------------

    async def _turn(
        self, turn: Turn, thread: ThreadRef, user: User, attempt: Attempt, events: ResponseEvents
    ) -> AsyncIterator[Event]:
        """One turn, from the caller to the disk and back."""
        # 1. Accept: the request is known to be good, and nothing is written yet.
        context = context_of(self.store.graph, turn.model_settings, turn.context)
        turn = replace(turn, state=await compute(partial(input_values, self.store.graph, turn.state), turn.state))
        thread_id, checkpoint_id = await locate(await self.database.pool(), thread, user)
        graph, saver = await self.store.graph_with_saver(self.memory_of(user))
        custom_outputs: CustomOutputs = {"thread_id": thread_id}
        note_ids(thread_id, events.id, user)
        noted = ids_beside_checkpoints(events.id)
        try:
            # 2. Take the thread: until the lease ends, no other run writes to it.
            async with saver.lease(thread_id, checkpoint_id, user, attempt, may_begin=thread.may_begin) as base:
                # 3. Plan: continue, fork, replay or resume.
                due = next_nodes(graph, base.checkpoint) if base else []
                waiting = await interrupts_at(graph, base) if base and due else []
                former = former_ids(base) if base else {}
                refused = base is not None and is_refused(base)
                own = tool_names(graph)
                held = messages_at(base) if base else []
                planning = partial(plan_turn, turn, checkpoint_id, base, due, waiting, former, own, is_refused=refused)
                plan = await compute(planning, turn.messages, held)
                check_length(len(held) + len(plan.messages or ()), self.settings.max_thread_messages)
                config, graph_input = await self._start(plan, graph, saver, noted)
                attempt.begin()
                if saver.base:
                    custom_outputs["parent_checkpoint_id"] = saver.base.config["configurable"]["checkpoint_id"]
                events.begin(custom_outputs.copy(), messages_at(saver.base) if saver.base and plan.is_replay else ())
                config["metadata"] = noted
                # 4. Run the graph, and 5. emit what it does as events.
                async for event in self._run(graph, graph_input, config, context, events, custom_outputs, saver):
                    yield event
                if waiting := await self._waiting(graph, saver):
                    custom_outputs["interrupts"] = waiting
                    for event in events.ask(waiting):
                        yield event
            # 6. Finish: all is on disk, and the thread is free.
            custom_outputs["checkpoint_id"] = saver.last_checkpoint_id or custom_outputs.get("parent_checkpoint_id")
        except Exception as error:
            failure = typed(error, is_stored=saver.last_checkpoint_id is not None)
            if failure is error:
                raise
            raise failure from error
        finally:
            if "trace_id" in noted:
                tag_trace(thread_id, events.id, user, custom_outputs.get("checkpoint_id", saver.last_checkpoint_id))
        for event in events.complete(custom_outputs, int(time.time())):
            yield event

    async def _start(
        self, plan: Plan, graph: CompiledGraph, saver: TurnSaver, noted: dict[str, Any]
    ) -> tuple[RunnableConfig, dict[str, Any] | Command[Any] | None]:
        """Where LangGraph goes on and with what input. It adds a child to that checkpoint: beside others, a fork.

        A checkpoint whose tasks are to keep what they have written is forked here, with `noted` beside the copy.
        LangGraph then goes on from the head: from a checkpoint that is named, all of them would run again.
        """
        if plan.answers is not None:
            answers = await fork_to_answer(graph, saver, plan.answers, noted)
            return config_at(saver.thread_id), Command(resume=answers) if answers else None
        if plan.keeps_results:
            await fork_with_results(graph, saver, noted)
            return config_at(saver.thread_id), None
        if plan.departs_after is None or saver.base is None:
            return config_at(saver.thread_id, plan.checkpoint_id), plan.graph_input
        before_departure = await ancestor_with(await self.database.pool(), saver.base, plan.departs_after)
        if before_departure:
            await saver.load(saver.thread_id, before_departure)
            return config_at(saver.thread_id, before_departure), plan.graph_input
        # It departs within a turn, or where the checkpoint was pruned: the rest is taken out instead.
        removed = [RemoveMessage(str(message.id)) for message in messages_at(saver.base)[plan.departs_after :]]
        return config_at(saver.thread_id, plan.checkpoint_id), {
            "messages": [*removed, *(plan.messages or ())],
            **plan.state,
        }

    async def _waiting(self, graph: CompiledGraph, saver: TurnSaver) -> list[Interrupt]:
        """What the graph waits for, having run: it has stopped where steps are due."""
        if not (saver.metadata and saver.metadata["next_nodes"]):
            return []
        await saver.flush()
        here = saver.last_checkpoint_id or (saver.base and saver.base.checkpoint["id"])
        newest = await saver.load(saver.thread_id, here)
        assert newest
        return await interrupts_at(graph, newest)

    async def _unstored_turn(self, turn: Turn, events: ResponseEvents) -> AsyncIterator[Event]:
        """A turn without a thread: nothing is kept, and no database is touched."""
        graph = self.store.graph
        context = context_of(graph, turn.model_settings, turn.context)
        graph_input = {"messages": turn.messages, **input_values(graph, turn.state)}
        outputs: CustomOutputs = {}
        async for event in self._run(graph.copy({"checkpointer": None}), graph_input, {}, context, events, outputs):
            yield event
        for event in events.complete(outputs, int(time.time())):
            yield event

    async def _answer_to(self, messages: Sequence[AnyMessage], model_settings: dict[str, Any]) -> Response:
        """What the graph answers to messages. Nothing is stored."""
        events = ResponseEvents(empty_response("unstored", int(time.time())))
        turn = Turn(list(messages), None, model_settings)
        emitted = [event async for event in self._unstored_turn(turn, events)]
        return dict(emitted[-1]["response"])

    async def _run(
        self,
        graph: CompiledGraph,
        graph_input: dict[str, Any] | Command[Any] | None,
        config: RunnableConfig,
        context: Any,
        events: ResponseEvents,
        custom_outputs: CustomOutputs,
        saver: TurnSaver | None = None,
    ) -> AsyncIterator[Event]:
        """Run the graph and emit what it does. That something is done is emitted once it is on disk.

        The keys of its output beside messages are added to `custom_outputs`.
        """
        config |= {"recursion_limit": self.settings.max_steps, "callbacks": [AnswerEnd()]}
        keys, streams = output_keys(graph), self.store.streams
        state: dict[str, Any] = {}
        whens: dict[str, When] = {}
        modes: list[StreamMode] = ["messages", "updates", "values"] if keys else ["messages", "updates"]
        chunks: Any = graph.astream(graph_input, config, context=context, stream_mode=modes)
        try:
            async for mode, chunk in chunks:
                if mode == "values":
                    state = chunk
                    continue
                # In `updates` a step has ended; if it was the last one, all of it is stored when the lease ends.
                if events.has_held and (mode == "messages" or events.turn_goes_on):
                    if saver:
                        await saver.flush()
                    for event in events.stored():
                        yield event
                if mode == "messages":
                    message, metadata = chunk
                    namespace = metadata["langgraph_checkpoint_ns"]
                    if namespace not in whens:
                        whens[namespace] = streams.when(step_path(namespace))
                    for event in events.feed(message, namespace, whens[namespace]):
                        yield event
                elif mode == "updates":
                    for messages in written_in(chunk):
                        custom_outputs.update(noted_of(messages))
                        for event in events.written(messages):
                            yield event
        except Exception as error:
            if saver and is_refusal(error):
                await saver.note_refusal()
            if saver and is_invalid_resume(error):
                saver.withdraw_copy()
            if not isinstance(error, GraphRecursionError):
                raise
            if saver is None:
                raise TooManySteps() from error
            text = f"I stopped here: this has taken {self.settings.max_steps} steps, and I may take no more."
            message = await end_turn(graph, saver, config, text)
            for event in [*events.feed(message, ""), *events.written(message)]:
                yield event
        if keys:
            told = {key: state[key] for key in keys if key in state}
            custom_outputs["state"] = await compute(partial(as_json, told), told)

    # -- Life ------------------------------------------------------------------------------------------------------

    @property
    def answers_from(self) -> str:
        """What answers, in words: the name that the graph was compiled with."""
        name = self.store.graph.get_name()
        return "a graph of your own" if name == "LangGraph" else name

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
        await self.store.open()

    def close(self) -> None:
        """End what runs, and close the database. The agent opens again at its next use."""
        if self.loop.is_started:  # when the interpreter exits, it starts no more threads
            self.loop.run(self.aclose())

    @on_loop
    async def aclose(self) -> None:
        """End what runs, and close the database. The agent opens again at its next use."""
        await self.loop.cancel_work()
        await self.database.close()
