"""The agent itself: a model step and a tools step.

START -> model -> END
           ^ |     ^
           | v     |   one task per tool call; END if others are the client's
          tools ---+
"""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeAlias, cast

from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.tools import BaseTool
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Send

from stateful_agent.errors import Misconfigured
from stateful_agent.failures import is_unreachable
from stateful_agent.graph.answers import ANSWERED_BY, MESSAGES_LEFT_OUT, collect, name_of
from stateful_agent.graph.context_window import newest_turns, room_beside, window_of
from stateful_agent.graph.model_settings import ModelSettings
from stateful_agent.graph.prompt import caching, prepared
from stateful_agent.graph.summaries import SummarizedState, message_of, summarized
from stateful_agent.graph.tool_results import readable, reason

BROKEN_CALL = "Error: the arguments of this call are no whole JSON object, or too long: it was not made. Make it again."
MAX_ARGUMENT_CHARS = 1_000_000
"""What a call may take as its arguments. A model that writes more has lost its way."""

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What all providers take as a tool's name."""

CompiledGraph: TypeAlias = CompiledStateGraph[Any, Any, Any, Any]


def build_graph(
    model: BaseChatModel,
    tools: Sequence[BaseTool],
    system_prompt: str = "",
    tool_timeout: float | None = None,
    approve: Collection[str] = (),
    *,
    max_tool_result_chars: int | None = None,
    fallbacks: Sequence[BaseChatModel] = (),
    model_timeout: float | None = None,
    context_tokens: int | None = None,
    summarize: bool = False,
    prompt_caching: bool = False,
) -> StateGraph[MessagesState, ModelSettings]:
    """An agent that calls `model`, runs the tools it asks for, and calls it again until it has its answer.

    A tool that raises, or takes longer than `tool_timeout` seconds, does not end the turn: the model reads the error
    as the tool's result. Of a result, it reads the first `max_tool_result_chars` characters; what is no text stays in
    its artifact. The system prompt goes to the model with every call and is never stored; a turn's own
    instructions follow it. A call of a tool whose name is among `approve` waits until a person has approved it; others
    do not wait for that. A call of a client's function ends the turn: its result comes with the next one.

    Where the model cannot be reached before its answer begins, the first of the `fallbacks` that can be answers; one
    that is silent for more than `model_timeout` seconds amid its answer has failed. Of a conversation, the newest turns
    are sent that take about `context_tokens` tokens at most; with `summarize`, after a summary of those before, which
    the model makes and the state keeps. With `prompt_caching`, providers that want to be told what of a prompt can be
    cached are told. The graph runs asynchronously only.

    Raises:
        Misconfigured: there is no tool of a name in `approve`, there are two of one name, or models take no such name.
    """
    own = [tool.name for tool in tools]
    if unknown := sorted(set(approve) - set(own)):
        raise Misconfigured(
            f"TOOLS_TO_APPROVE names {unknown[0]!r}, which is no tool here: there are {', '.join(own)}."
        )
    if twice := sorted({name for name in own if own.count(name) > 1}):
        raise Misconfigured(f"Two tools are named {twice[0]!r}: rename one.")
    if refused := [name for name in own if not TOOL_NAME.fullmatch(name)]:
        raise Misconfigured(f"A tool is named {refused[0]!r}: models take up to 64 letters, digits, _ and -.")
    reviewed = HumanInTheLoopMiddleware(dict.fromkeys(approve, True), interrupt_mode="per_call")
    models, plain = (model, *fallbacks), ModelSettings()
    answering = [plain.bind(each, tools, []) for each in models]

    def settings() -> ModelSettings:
        runtime: Runtime[ModelSettings] | None = get_runtime(ModelSettings)  # none in an edit
        return (runtime and runtime.context) or plain

    def system(asked: ModelSettings) -> list[AnyMessage]:
        instructions = "\n\n".join(text for text in (system_prompt, asked.instructions) if text)
        return [SystemMessage(instructions)] if instructions else []

    def fitting(model: BaseChatModel, asked: ModelSettings, messages: list[AnyMessage]) -> Sequence[AnyMessage]:
        if context_tokens is None and asked.truncation != "auto":
            return messages
        window = window_of(model) if asked.truncation == "auto" else None
        return newest_turns(messages, room_beside(system(asked), asked.max_output_tokens, context_tokens, window))

    async def call_model(state: SummarizedState) -> dict[str, Any]:
        asked, messages, summary = settings(), state["messages"], state.get("summary")
        for n, each in enumerate(models):
            bound = asked.bind(each, tools, messages) if asked.binds else answering[n]
            sent = fitting(each, asked, messages)
            known: list[AnyMessage] = []
            if summarize and len(sent) < len(messages):
                at_once = min(limit for limit in (context_tokens, window_of(each)) if limit)
                summary = await summarized(each, summary, messages, len(messages) - len(sent), at_once)
                known = [message_of(summary)] if summary else []
            prompt = [*system(asked), *known, *prepared(sent, each)]
            cached = caching(each) if prompt_caching else {}
            answer = bound.astream(prompt, **asked.sampling(), **cached)
            chunks: list[BaseMessage] = []
            try:
                await collect(answer, chunks, model_timeout)
            except Exception as error:
                if chunks or not is_unreachable(error) or n + 1 == len(models):
                    raise
                continue
            added = answer_with_refusals(chunks)
            if n:
                added[0].response_metadata[ANSWERED_BY] = name_of(each)
            if len(sent) < len(messages):
                added[0].response_metadata[MESSAGES_LEFT_OUT] = len(messages) - len(sent)
            return {"messages": added, **({"summary": summary} if known else {})}
        raise AssertionError("the last model answers or raises")

    async def run_tool(call: ToolCallRequest, run: Callable[[ToolCallRequest], Awaitable[Any]]) -> Any:
        return await reviewed.awrap_tool_call(call, lambda approved: in_time(approved, run))

    async def in_time(call: ToolCallRequest, run: Callable[[ToolCallRequest], Awaitable[Any]]) -> Any:
        limit = asyncio.timeout(tool_timeout)
        try:
            async with limit:
                result = await run(call)
        except TimeoutError:
            assert limit.expired()  # a tool's own is its result already
        # Some answer being given up with an error of their own, as MCP's client does while its server starts.
        if limit.expired():
            text = f"Error: not finished after {tool_timeout:g} seconds. Whether it has any effect is unknown."
            name, call_id = call.tool_call["name"], str(call.tool_call["id"])
            return ToolMessage(text, name=name, tool_call_id=call_id, status="error")
        return readable(result, max_tool_result_chars) if isinstance(result, ToolMessage) else result

    # The next two await nothing; plain functions LangGraph would run on another thread.
    async def run_tools(state: MessagesState) -> list[Send] | str:
        """Each tool call as a task of its own, so that after a crash those that had finished do not run again."""
        calls, answered = calls_and_answered(state["messages"])
        theirs = [call for call in calls if settings().is_clients(call["name"])]
        to_run = [Send("tools", [call]) for call in calls if call["id"] not in answered and call not in theirs]
        return to_run or ("model" if answered and not theirs else END)

    async def go_on(state: MessagesState) -> str:
        calls, _ = calls_and_answered(state["messages"])
        return END if any(settings().is_clients(call["name"]) for call in calls) else "model"

    kept = SummarizedState if summarize else MessagesState
    graph = StateGraph(kept, ModelSettings, input_schema=MessagesState, output_schema=MessagesState)
    graph.add_node("model", call_model)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=tool_error, awrap_tool_call=run_tool))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", run_tools, ["tools", "model", END])
    graph.add_conditional_edges("tools", go_on, ["model", END])
    return graph


def check_graph(graph: Any) -> None:
    """See that a graph can be served.

    Raises:
        Misconfigured: it is no compiled `StateGraph`, its state has no `messages`, or not in a form that each
            checkpoint holds.
    """
    if isinstance(graph, Pregel) and not isinstance(graph, CompiledStateGraph):
        raise Misconfigured(
            "The graph is an @entrypoint of LangGraph's functional API, whose state has no `messages` that could be "
            "edited or forked: make it a StateGraph."
        )
    if not isinstance(graph, CompiledStateGraph):
        raise Misconfigured(f"The graph is a {type(graph).__name__}: it must be a StateGraph, compiled or not.")
    channel = graph.channels.get("messages")
    if channel is None:
        raise Misconfigured("The graph's state needs `messages`, as LangGraph's MessagesState has them.")
    if isinstance(channel, DeltaChannel):
        raise Misconfigured("The graph's `messages` are a DeltaChannel, which is not supported: use add_messages.")


def tool_error(error: Exception) -> str:
    """What the model reads as the result of a tool that raised."""
    return f"Error: {reason(error)}"


def calls_and_answered(messages: Sequence[BaseMessage]) -> tuple[Sequence[ToolCall], set[str]]:
    """The tool calls that the model has made last, and the ids of those that have results."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        else:
            return message.tool_calls if isinstance(message, AIMessage) else [], answered
    return [], answered


def answer_with_refusals(chunks: Sequence[BaseMessage]) -> list[AnyMessage]:
    """A model's message from its chunks, and a result for each call in it that must not run.

    A model may break off amid a call's arguments, or write what is no JSON. LangChain completes such arguments as well
    as it can; run so, a tool would do what the model never asked for.
    """
    merged = cast(AIMessageChunk, chunks[0]) + list(chunks[1:]) if len(chunks) > 1 else chunks[0]
    calls = merged.tool_call_chunks if isinstance(merged, AIMessageChunk) else []
    raw = {call["id"]: call["args"] or "" for call in calls}
    message = cast(AIMessage, message_chunk_to_message(merged))  # a model that does not stream yields a whole one
    broken = [call for call in message.tool_calls if not _is_object(raw.get(call["id"], ""))]
    broken += [
        ToolCall(name=call["name"] or "unknown", args={}, id=call["id"] or str(uuid.uuid4()))
        for call in message.invalid_tool_calls
    ]
    if not broken:
        return [message]
    ids = {call["id"] for call in broken}
    kept = [call for call in message.tool_calls if call["id"] not in ids]
    message.tool_calls, message.invalid_tool_calls = [*kept, *(call | {"args": {}} for call in broken)], []
    return [
        message,
        *(ToolMessage(BROKEN_CALL, name=call["name"], tool_call_id=str(call["id"]), status="error") for call in broken),
    ]


def _is_object(arguments: str) -> bool:
    if len(arguments) > MAX_ARGUMENT_CHARS:
        return False
    try:
        return isinstance(json.loads(arguments or "{}"), dict)
    except ValueError:
        return False
