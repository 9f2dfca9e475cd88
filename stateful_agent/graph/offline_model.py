"""The built-in offline model: a few fixed rules, for when there is no key and no network."""

import json
import re
import zoneinfo
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

OFFLINE_MODEL = "the built-in offline model: a few fixed rules (set AGENT_MODEL for a real one)"
"""The model in words."""

NOTICE = "(I am the built-in offline model: a few fixed rules, not a language model. Set AGENT_MODEL for a real one.) "

ABILITIES = (
    "I can remember where you are going, your name and what you said, look up the weather and compare it, "
    "tell the time somewhere, and search."
)


class OfflineModel(BaseChatModel):
    """A deterministic stand-in for a chat model, for when there is no key and no network.

    It answers from the conversation it is given and from nothing else, so that memory, forks and edits show in
    what it says. A question it has no rule for gets an answer that says so.
    """

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(
        self, tools: Sequence[Any], *, parallel_tool_calls: bool = True, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        bound = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=bound, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def with_structured_output(
        self, schema: Any = None, *, method: str = "json_schema", include_raw: bool = False, **kwargs: Any
    ) -> Runnable[Any, Any]:
        return self.bind(response_format=schema or {"type": "object"}) | JsonOutputParser()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=reply(messages, **_offered(kwargs)))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(reply(messages, **_offered(kwargs))):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(reply(messages, **_offered(kwargs))):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


MOST_MESSAGES, MOST_CHARACTERS = 400, 1000
"""How far back it reads, and how much of each message: a server stalls while it does."""


def reply(
    messages: Sequence[BaseMessage],
    functions: Mapping[str, dict[str, Any]],
    choice: str | None = None,
    parallel: bool = True,
    form: dict[str, Any] | None = None,
) -> AIMessage:
    """What the offline model says to `messages`, with these functions at hand: the JSON schemas of their arguments, by
    their names. `choice` is `any`, or the name of the one that it has to call. `form` is the JSON schema of the answer.
    """
    messages = [_beginning(message) for message in messages[-MOST_MESSAGES:]]
    answer = _functions_asked_for(messages, functions, choice) or _reply(messages)
    if isinstance(answer, list):
        calls = [
            ToolCall(name=name, args=args, id=f"call_{len(messages)}_{n}", type="tool_call")
            for n, (name, args) in enumerate(answer)
            if name in functions
        ]
        if calls:
            return _with_usage(messages, AIMessage("", tool_calls=calls if parallel else calls[:1]))
        answer = f"That takes the tool {answer[0][0]!r}, which I have not been given."
    if form is not None:
        return _with_usage(messages, AIMessage(json.dumps(_argument(form, answer))))
    introduced = any(isinstance(message, AIMessage) and message.text for message in messages)
    return _with_usage(messages, AIMessage(answer if introduced else NOTICE + answer))


def _beginning(message: BaseMessage) -> BaseMessage:
    """The message, or if it is long, one with the beginning of its text."""
    if len(message.text) <= MOST_CHARACTERS:
        return message
    return message.model_copy(update={"content": message.text[:MOST_CHARACTERS]})


def _with_usage(messages: Sequence[BaseMessage], message: AIMessage) -> AIMessage:
    """A message that tells what it took, with words for tokens."""
    read, written = (len(text.split()) for text in (" ".join(one.text for one in messages), message.text))
    message.usage_metadata = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    return message


Calls = list[tuple[str, dict[str, Any]]]

PLACE = r"(?:the )?((?:[A-Z][\w'’.-]*)(?: [A-Z][\w'’-]*)*|[\w'’/-]+)"
GOING_TO = re.compile(rf"(?i:headed|heading|going|flying|travell?ing|moving) (?i:to|for) {PLACE}")
MY_NAME_IS = re.compile(rf"(?i:my name is|call me|i am called) {PLACE}")
TEMPERATURE = re.compile(r"([A-Z][\w ]+): (-?\d+)°F")


RULES_FOR = {"search", "current_time"}
"""The tools that the rules below know how to call."""


def _functions_asked_for(
    messages: Sequence[BaseMessage], functions: Mapping[str, dict[str, Any]], choice: str | None
) -> Calls:
    """Calls of the function that has to be called, or whose name has a word of what the user has just said."""
    said = messages[-1].text if messages and isinstance(messages[-1], HumanMessage) else None
    if said is None and choice is None:
        return []
    text = said or ""
    words = set(re.findall(r"[a-z]{4,}", text.lower()))
    others = [name for name in functions if name not in RULES_FOR and words & set(re.findall("[a-z]+", name.lower()))]
    name = choice if choice not in (None, "any") else next(iter(others or (choice and functions) or ()), None)
    if name is None or name not in functions:
        return []
    properties = functions[name].get("properties") or {}
    subjects = _places(text) or [text]
    return [(name, {key: _argument(kind, subject) for key, kind in properties.items()}) for subject in subjects]


def _argument(schema: dict[str, Any], text: str) -> Any:
    """A value of a JSON schema, from what was said."""
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {name: _argument(kind, text) for name, kind in schema["properties"].items()}
    number = re.search(r"-?\d+", text)
    values = {"integer": int(number[0]) if number else 0, "number": float(number[0]) if number else 0.0}
    return (values | {"boolean": True, "array": [], "object": {}, "null": None}).get(schema.get("type", ""), text)


def _reply(messages: Sequence[BaseMessage]) -> str | Calls:
    """Text, or the tool calls that an answer needs first."""
    last = messages[-1] if messages else None
    if isinstance(last, ToolMessage):
        return _report(messages)
    said = [message.text.strip() for message in messages if isinstance(message, HumanMessage)]
    if not said:
        return f"You have not said anything yet. {ABILITIES}"
    text, earlier = said[-1], said[:-1]

    if asked(text, r"^summarize our conversation"):
        told = [message.text.removeprefix(NOTICE) for message in messages if isinstance(message, AIMessage)]
        return "I said: " + "; ".join(f"“{one}”" for one in told if one)
    if asked(text, r"which .*(warm|cold|hott|cool)er"):
        return _compare(messages, colder=asked(text, "colder|cooler"))
    topic = next((past for past in reversed(said) if asked(past, r"weather|what time|time is it")), "")
    if asked(text, r"weather") or (asked(text, r"^(and|what about|how about)") and asked(topic, "weather")):
        places = _places(text)
        return [("search", {"query": f"weather in {place}"}) for place in places] or "The weather where?"
    if asked(text, r"what time|time is it") or (asked(text, r"^(and|what about|how about)") and topic):
        return [("current_time", {"time_zone": _time_zone(place)}) for place in _places(text) or ["UTC"]]
    if match := re.match(r"(?i)(?:please )?(?:search|look up|find)(?: the web)?(?: for)? (.+?)[.?!]*$", text):
        return [("search", {"query": match[1]})]

    if asked(text, r"where .*(going|headed|heading|flying|travel)"):
        place = _latest(GOING_TO, earlier)
        return f"You said you are going to {place}." if place else "You have not told me where you are going."
    if asked(text, r"what('s| is) my name|who am i\b"):
        name = _latest(MY_NAME_IS, earlier)
        return f"Your name is {name}." if name else "You have not told me your name."
    if asked(text, r"what (did|have) i (just )?(say|said|ask|tell|told)|what do you remember"):
        return "You said: " + "; ".join(f"“{past}”" for past in earlier[-10:]) if earlier else "Nothing before this."

    if name := _latest(MY_NAME_IS, [text]):
        return f"Nice to meet you, {name}."
    if place := _latest(GOING_TO, [text]):
        return f"Noted: you are going to {place}."
    if asked(text, r"\b(trip|travel|vacation|holiday)"):
        return "A trip, how nice! Where are you headed?"
    if match := re.match(r"(?i)(?:please )?remember (?:that )?(.+)", text):
        return f"I will remember: {match[1]}"
    if asked(text, r"^(hi|hello|hey|good (morning|evening|afternoon))\b"):
        return f"Hello! {ABILITIES}"
    return f"I have no rule for that. {ABILITIES}"


def asked(text: str, pattern: str) -> bool:
    """Whether `text` contains `pattern`, in whatever case."""
    return re.search(pattern, text, re.IGNORECASE) is not None


def _latest(pattern: re.Pattern[str], texts: Sequence[str]) -> str | None:
    """What `pattern` captures in the latest of `texts` that it matches."""
    return next((match[1].rstrip(".") for text in reversed(texts) if (match := pattern.search(text))), None)


def _places(text: str) -> list[str]:
    """'What is the weather in SF and LA?' -> ['SF', 'LA']."""
    match = re.search(
        r"(?i)\b(?:in|about|for|at) (?:in )?(?:the )?(.+?)(?: (?:now|today|right now|tomorrow))?[?!. ]*$", text
    )
    return [place for place in re.split(r",\s*(?:and )?|\s+and\s+", match[1]) if place] if match else []


def _time_zone(place: str) -> str:
    """The IANA zone of a city that has one of its own; else the place as it is, for the tool to judge."""
    known = {"sf": "America/Los_Angeles", "san francisco": "America/Los_Angeles", "la": "America/Los_Angeles"}
    wanted = place.replace(" ", "_").lower()
    zones = (zone for zone in sorted(zoneinfo.available_timezones()) if zone.lower().endswith(f"/{wanted}"))
    return known.get(place.lower()) or (place if place == "UTC" else next(zones, place))


def _report(messages: Sequence[BaseMessage]) -> str:
    """What the tools that just ran have said."""
    results: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        prefix = f"The tool {message.name} failed. " if message.status == "error" else ""
        results.insert(0, prefix + message.text)
    return "\n".join(results)


def _compare(messages: Sequence[BaseMessage], *, colder: bool) -> str:
    found: dict[str, int] = {}
    for message in messages:
        if isinstance(message, ToolMessage):
            for place, degrees in TEMPERATURE.findall(message.text):
                found.pop(place, None)  # so that the latest two are the last two
                found[place] = int(degrees)
    if len(found) < 2:
        return "I know of fewer than two temperatures in this conversation, so I cannot compare."
    (one, first), (other, second) = list(found.items())[-2:]
    if first == second:
        return f"{one} and {other} are equally warm: {first}°F."
    if (first > second) == colder:
        (one, first), (other, second) = (other, second), (one, first)
    return f"{one} is {'colder' if colder else 'warmer'}: {first}°F, and {other} has {second}°F."


def _offered(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a call of the model says of tools, as `reply` takes it."""
    functions = [tool["function"] for tool in kwargs.get("tools") or ()]
    return {
        "functions": {function["name"]: function.get("parameters") or {} for function in functions},
        "choice": kwargs.get("tool_choice"),
        "parallel": kwargs.get("parallel_tool_calls", True),
        "form": kwargs.get("response_format"),
    }


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    """The message as a provider would stream it: word by word, then its tool calls."""
    for word in re.findall(r"\S+\s*", message.text) or ([] if message.tool_calls else [""]):
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    if message.tool_calls:
        calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
            for index, call in enumerate(message.tool_calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=calls))
    yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=message.usage_metadata))
