"""What a request asks for, and how its turn goes on from a checkpoint: pure decisions, before anything is written."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile, takewhile
from typing import Any, cast, get_args

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple

from stateful_agent.errors import InvalidRequest, NothingToResume
from stateful_agent.responses.functions import as_bound
from stateful_agent.responses.interrupts import Approval, answers_to, approvals_in, is_breakpoint
from stateful_agent.responses.limits import check_count, check_size, check_storable
from stateful_agent.responses.messages import (
    check_pairs,
    leading_instructions,
    to_items,
    to_messages,
    unanswered_calls,
    without_lost_calls,
)
from stateful_agent.responses.request import ResponsesRequest
from stateful_agent.responses.text_options import PLAIN
from stateful_agent.responses.thread_ref import ThreadRef, thread_ref_of
from stateful_agent.responses.transcript import continuation
from stateful_agent.responses.types import Interrupt, ToolItems

NO_OUTPUT = "This call has no result: the conversation went on without one."
UNFINISHED = "This call did not finish: it was interrupted, and whether it had any effect is unknown."
NOT_APPROVED = "This call was not made: it waited for a person, who sent a message instead of an answer."


# -- Accept ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """A request that is known to be well-formed."""

    messages: list[AnyMessage]
    """The input."""

    thread: ThreadRef | None
    """Where it goes on; `None`: nowhere, nothing of it is stored."""

    model_settings: dict[str, Any]
    """What is asked of the model for this one turn, and not stored."""

    state: dict[str, Any] = field(default_factory=dict)
    """Other keys of the graph's input."""

    context: Any = None
    """The graph's runtime context, which is not stored."""

    references: list[dict[str, Any]] | None = None
    """The input items instead, if some refer to items of the thread: `resolve` makes the messages of them."""

    resumes: bool = False
    """Whether it answers what the thread waits for with `resume`."""

    resume: Any = None
    """The answer to the interrupt that waits, or several by the interrupts' ids."""

    approvals: Sequence[Approval] = ()
    """Whether calls may run that wait for it."""

    @property
    def outputs(self) -> set[str]:
        """The ids of the calls whose outputs it brings."""
        if self.references is not None:
            return {str(item.get("call_id")) for item in self.references if item.get("type") == "function_call_output"}
        return {message.tool_call_id for message in self.messages if isinstance(message, ToolMessage)}

    @property
    def is_answer(self) -> bool:
        """Whether it answers what the thread waits for, instead of adding to the conversation."""
        return self.resumes or bool(self.approvals)

    @property
    def is_replay(self) -> bool:
        """Whether there is no input: what is pending in the thread runs."""
        return not (self.messages or self.references or self.state or self.is_answer)


def accept(request: ResponsesRequest, new_thread_id: str, *, max_bytes: int, max_items: int) -> Turn:
    """Read a request.

    The thread is that of `custom_inputs.thread_id`, `metadata.thread_id` or `conversation`, else
    `context.conversation_id`, else `new_thread_id`; `previous_response_id` names a thread and a checkpoint in one.
    `store: false` asks for an answer without a thread: nothing is kept and no database is touched.

    Raises:
        InvalidRequest: an id that storage cannot hold, ids that contradict each other, a checkpoint without its
            thread, or an item that no conversation can hold.
        InputTooLarge: more than `max_bytes`, or more than `max_items`.
    """
    items = request.input
    check_count(items, max_items)
    check_size([items, request.instructions], max_bytes)
    has_references = any(_is_reference(item) for item in items)
    custom = request.custom_inputs or {}
    approvals, resumes = approvals_in(items), "resume" in custom
    state = custom.get("state") or {}
    settings = _model_settings(request)
    thread = thread_ref_of(request)
    messages = [] if has_references or approvals else messages_in(items, goes_on=thread is not None)

    if has_references and thread is None:
        raise InvalidRequest(
            "An item_reference names an item of a thread: name the thread too, in custom_inputs.thread_id, "
            "metadata.thread_id, conversation or previous_response_id, or send the item itself.",
            param="input",
        )
    if request.store is False:
        if thread is not None or resumes or approvals:
            raise InvalidRequest("store: false keeps nothing, so it takes no thread: leave one of them out.")
        if not messages:
            raise InvalidRequest("store: false keeps nothing, so there is nothing to replay: send input.")
        return Turn(messages, None, settings, state, custom.get("context"))
    if thread is None:
        if resumes or approvals:
            raise InvalidRequest("An answer needs the thread that waits for it: name its thread_id.", param="input")
        if not (messages or state):
            raise InvalidRequest("Send input, or the thread_id of a conversation to resume.", param="input")
        thread = ThreadRef(new_thread_id, may_begin=True)
    thread = replace(thread, may_begin=thread.may_begin and bool(messages or state))
    if (resumes and messages) or ((resumes or approvals) and state):
        raise InvalidRequest("An answer comes without input: send the message in the next turn.", param="input")
    return Turn(
        messages,
        thread,
        settings,
        state,
        custom.get("context"),
        items if has_references else None,
        resumes,
        custom.get("resume"),
        approvals,
    )


def operation_in(request: ResponsesRequest) -> tuple[Any, dict[str, Any]] | None:
    """The operation that a request names instead of taking a turn, and its arguments.

    Raises:
        InvalidRequest: it has input as well.
    """
    arguments = dict(request.custom_inputs or {})
    if "operation" not in arguments:
        return None
    if request.input:
        raise InvalidRequest("An operation takes no input: send [].", param="input")
    return arguments.pop("operation"), arguments


def tool_items_in(request: ResponsesRequest, default: ToolItems, *, for_mlflow: bool) -> ToolItems:
    """How the answer shows the agent's tool calls: `tool_items` in `custom_inputs` or `metadata`, else the default.

    Raises:
        InvalidRequest: there is no such way, or MLflow's types, in which the answer is wanted, do not know it.
    """
    for fields in (request.custom_inputs, request.metadata):
        if fields and (chosen := fields.get("tool_items")) is not None:
            if chosen not in get_args(ToolItems):
                raise InvalidRequest(f"tool_items is one of {', '.join(get_args(ToolItems))}.", param="tool_items")
            if chosen == "mcp_call" and for_mlflow:
                raise InvalidRequest("MLflow's types hold no mcp_call: ask for it over HTTP.", param="tool_items")
            return cast(ToolItems, chosen)
    return "function_call" if default == "mcp_call" and for_mlflow else default


def messages_in(items: list[dict[str, Any]], *, goes_on: bool) -> list[AnyMessage]:
    """What a request's input adds to a conversation, as messages with ids of their own.

    If it `goes_on` with a thread, it may begin with the outputs of calls there.

    Raises:
        InvalidRequest: an item that no conversation can hold.
    """
    first = len(leading_instructions(items))
    messages = without_lost_calls(to_messages(items[first:], first=first))
    check_storable(messages)
    check_pairs(list(dropwhile(_is_output, messages)) if goes_on else messages)
    for message in messages:  # an id from outside could name a message of the thread, and replace it
        message.id = str(uuid.uuid4())
    return messages


def _model_settings(request: ResponsesRequest) -> dict[str, Any]:
    instructions = [request.instructions or "", *leading_instructions(request.input)]
    text = request.text or {"format": PLAIN}
    settings = {
        "instructions": "\n\n".join(text for text in instructions if text) or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_output_tokens": request.max_output_tokens,
        "presence_penalty": request.presence_penalty or None,
        "frequency_penalty": request.frequency_penalty or None,
        "tools": [as_bound(function) for function in request.tools or ()] or None,
        "tool_choice": None if request.tool_choice == "auto" else request.tool_choice,
        "parallel_tool_calls": None if request.parallel_tool_calls else request.parallel_tool_calls,
        "text_format": None if text["format"] == PLAIN else text["format"],
        "verbosity": text.get("verbosity"),
        "reasoning": request.reasoning,
        "truncation": request.truncation,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _is_output(message: BaseMessage) -> bool:
    return isinstance(message, ToolMessage)


def _is_reference(item: dict[str, Any]) -> bool:
    return item.get("type") == "item_reference"


# -- Plan --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a turn goes on from the checkpoint that its thread was taken at."""

    messages: list[BaseMessage] | None
    """What the graph is given; `None`: nothing, what is pending there runs."""

    checkpoint_id: str | None
    """Where it goes on instead of the head."""

    departs_after: int | None = None
    """A conversation that was sent again departs from the thread after so many of its messages: it forks there."""

    keeps_results: bool = False
    """Whether some of the pending tool calls have results, stored beside the checkpoint: these do not run again."""

    answers: dict[str, Any] | None = None
    """What interrupts are answered with, by their ids."""

    state: dict[str, Any] = field(default_factory=dict)
    """Other keys of the graph's input."""

    @property
    def is_replay(self) -> bool:
        """Whether nothing is added."""
        return self.messages is None

    @property
    def graph_input(self) -> dict[str, Any] | None:
        """The input as LangGraph takes it."""
        return None if self.messages is None else {"messages": self.messages, **self.state}


def plan_turn(
    turn: Turn,
    checkpoint_id: str | None,
    base: CheckpointTuple | None,
    next_nodes: list[str],
    waiting: Sequence[Interrupt] = (),
    former_ids: Mapping[str, str] | None = None,
    own_tools: Collection[str] = (),
    *,
    is_refused: bool = False,
) -> Plan:
    """Decide how a turn goes on from `base`: the checkpoint named by `checkpoint_id`, else the head of its thread.

    `base` is `None` where the thread begins. `next_nodes` are the steps that would run next from it, and `waiting` the
    interrupts that can be answered there, of which some had other ids before (`former_ids`). Calls of other tools than
    the graph's `own_tools` are the client's to answer. `is_refused` says that the model's provider refuses what the
    thread holds there: that is left behind, on a branch of its own.

    Raises:
        NothingToResume: there is no input, or the thread holds all of it already, and nothing is pending.
        InvalidRequest: the input refers to what the thread does not hold, or answers what does not wait.
    """
    if turn.is_answer:
        answers = answers_to(waiting, former_ids or {}, turn.resume, turn.approvals, resumes=turn.resumes)
        if all(is_breakpoint(interrupt) for interrupt in waiting):
            return Plan(None, checkpoint_id)
        return Plan(None, checkpoint_id, answers=answers)
    if turn.is_replay:
        if base is None or not (checkpoint_id or next_nodes):
            raise NothingToResume(param="input")
        if checkpoint_id and waiting and not is_breakpoint(waiting[0]):
            return Plan(None, checkpoint_id, answers={})  # it asks again, and what was answered before stays
        return Plan(None, checkpoint_id, keeps_results=checkpoint_id is not None and has_results(base))
    if base is None:
        _check_outputs(turn.messages, [])
        return Plan(list(resolve(turn, [])), None, state=turn.state)
    stored = _stored(base, at_head=checkpoint_id is None)
    open_calls = unanswered_calls([*messages_at(base), *stored], with_broken=True)
    theirs = _clients_calls([*messages_at(base), *stored], own_tools, next_nodes)
    brought = turn.outputs & theirs
    unfinished = NOT_APPROVED if waiting else UNFINISHED
    closing = [
        *stored,
        *(
            _closed(call, NO_OUTPUT if call["id"] in theirs else unfinished)
            for call in open_calls
            if call["id"] not in brought
        ),
    ]
    thread = [*messages_at(base), *closing]
    resent = continuation(thread, resolve(turn, thread))
    _check_outputs(resent.new, brought)
    if not (resent.new or turn.state):
        raise NothingToResume("The thread holds all of this input already: add a message.", param="input")
    pending = _pending_questions(base) if next_nodes and not waiting and checkpoint_id is None else []
    if pending and resent.after is None and not turn.state:
        if _texts(resent.new) == _texts(pending):  # it failed, and is asked again
            return Plan(None, None)
        if is_refused:
            after = len(messages_at(base)) - len(pending)
            return Plan(list(resent.new), None, departs_after=after, state=turn.state)
    if resent.after is not None:
        return Plan(list(resent.new), checkpoint_id, departs_after=resent.after, state=turn.state)
    return Plan([*closing, *resent.new], checkpoint_id, state=turn.state)


def resolve(turn: Turn, thread: Sequence[BaseMessage]) -> list[AnyMessage]:
    """The input as messages, once the thread's messages are known, which it may refer to.

    Raises:
        InvalidRequest: the thread holds no such item, or an item is one that no conversation can hold.
    """
    if turn.references is None:
        return turn.messages
    items_by_id = {item["id"]: item for item in to_items(thread)}
    message_ids = {message.id for message in thread}
    items = []
    for n, item in enumerate(turn.references):
        if not _is_reference(item):
            items.append(item)
        elif (item_id := str(item.get("id"))) in items_by_id:
            items.append(items_by_id[item_id])
        elif item_id.rsplit("-", 2)[0] not in message_ids:  # else it is a part of a message that input leaves out
            raise InvalidRequest(
                f"The thread holds no item {item_id!r} here: send the item itself.", param=f"input[{n}].id"
            )
    return messages_in(items, goes_on=True)


def _stored(base: CheckpointTuple, *, at_head: bool) -> list[BaseMessage]:
    """What was stored beside a checkpoint without being in it, after a crash, and goes on with the next message.

    At an older checkpoint what came next belongs to another branch, except the results of calls that are pending here.
    """
    return [message for message in stored_messages(base) if at_head or isinstance(message, ToolMessage)]


def _closed(call: ToolCall, text: str) -> ToolMessage:
    """A result for a call that has none: providers reject one without, for ever after."""
    return ToolMessage(text, tool_call_id=str(call["id"]), name=call["name"], status="error")


def _clients_calls(messages: Sequence[BaseMessage], own_tools: Collection[str], next_nodes: Sequence[str]) -> set[str]:
    """The ids of the calls that are the client's to answer."""
    if next_nodes and not own_tools:  # the graph does not show its tools: a call may be one that it has begun to run
        return set()
    return {str(call["id"]) for call in unanswered_calls(messages) if call["name"] not in own_tools}


def _check_outputs(messages: Sequence[BaseMessage], brought: Collection[str]) -> None:
    """See that the outputs which input begins with are of calls that wait for them."""
    for message in takewhile(_is_output, messages):
        if (call_id := cast(ToolMessage, message).tool_call_id) not in brought:
            raise InvalidRequest(f"The output {call_id!r} answers no pending function call.", param="input")


def _pending_questions(base: CheckpointTuple) -> list[AnyMessage]:
    """The user's messages that a checkpoint ends with: a turn has begun there, and has no answer."""
    return list(takewhile(lambda message: isinstance(message, HumanMessage), reversed(messages_at(base))))[::-1]


def _texts(messages: Sequence[BaseMessage]) -> list[Any]:
    return [(message.type, message.content) for message in messages]


def messages_at(base: CheckpointTuple) -> list[AnyMessage]:
    """The messages of a checkpoint."""
    return list(base.checkpoint["channel_values"].get("messages", ()))


def stored_messages(base: CheckpointTuple) -> Iterable[BaseMessage]:
    """What a step's finished tasks have written, stored beside the checkpoint because others did not finish."""
    for _task, channel, value in base.pending_writes or ():
        if channel == "messages":
            for message in value if isinstance(value, list) else [value]:
                if isinstance(message, BaseMessage):
                    yield message


def has_results(base: CheckpointTuple) -> bool:
    """Whether tool calls are pending at a checkpoint and results of some are stored beside it."""
    calls = unanswered_calls(messages_at(base))
    return bool(calls) and any(isinstance(message, ToolMessage) for message in stored_messages(base))
