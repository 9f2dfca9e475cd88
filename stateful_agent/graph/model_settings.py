"""What a request asks of the model for one turn, the functions that a client brings along among it."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from stateful_agent.errors import InvalidRequest

UNBOUND = ("instructions", "temperature", "top_p", "max_output_tokens", "truncation")
"""The fields that are told the model with a call of it, without binding it."""


@dataclass(frozen=True)
class ModelSettings:
    """What a request asks of the model for one turn: LangGraph's context of a graph that heeds it. Never stored."""

    instructions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    presence_penalty: float = 0
    frequency_penalty: float = 0
    tools: Sequence[dict[str, Any]] = ()
    """The client's own functions, as LangChain's `bind_tools` takes them: a call of one ends the turn."""

    tool_choice: str | dict[str, Any] = "auto"
    """`auto`, `none`, `required`, or as in a request: one function, or those that are allowed."""

    parallel_tool_calls: bool = True
    text_format: dict[str, Any] | None = None
    """The form of the answer, as in a request: `json_object` or `json_schema`."""

    verbosity: str | None = None
    reasoning: dict[str, Any] | None = None
    """The `effort` and the `summary` that are asked for."""

    truncation: str = "disabled"
    """`auto`: where the conversation is too long for the model, the oldest turns are not sent."""

    @property
    def binds(self) -> bool:
        """Whether the model is to be bound otherwise than to its own tools."""
        return any(getattr(self, field.name) != field.default for field in fields(self) if field.name not in UNBOUND)

    def sampling(self) -> dict[str, Any]:
        """The arguments of a call of LangChain's chat models."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_output_tokens}
        return {name: value for name, value in given.items() if value is not None}

    def is_clients(self, name: str) -> bool:
        """Whether a function is the client's."""
        return any(tool["function"]["name"] == name for tool in self.tools)

    def bind(
        self, model: BaseChatModel, tools: Sequence[BaseTool], messages: Sequence[BaseMessage]
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with its own tools and the client's, to be chosen from and to answer as the request says.

        A choice that is forced is so once a turn: `messages` show whether a call was made since the user's last. How
        verbose it is to be, and how much it is to reason, is said to models that know.

        Raises:
            InvalidRequest: the model cannot be told to make one call at a time, to answer in that form, or to avoid
                what is there already.
        """
        choice: dict[str, Any] = self.tool_choice if isinstance(self.tool_choice, dict) else {"type": self.tool_choice}
        offered: list[Any] = [] if choice["type"] == "none" else [*tools, *self.tools]
        forced = "any" if "required" in (choice["type"], choice.get("mode")) else None  # as LangChain calls it
        if choice["type"] == "allowed_tools":
            allowed = {tool["name"] for tool in choice["tools"]}
            offered = [tool for tool in offered if _name_of(tool) in allowed]
        elif choice["type"] == "function":
            forced = choice["name"]
        manner = self._manner(model) | self._form(model)
        if not offered:
            return model.bind(**manner) if manner else model
        if "response_format" in manner and hasattr(model, "root_async_client") and "reasoning" not in manner:
            # Beside a form, OpenAI's client takes strict functions only. Its chat API takes others too.
            manner["extra_body"] = {"response_format": manner.pop("response_format")}
        options: dict[str, Any] = {}
        if forced and not _has_called(messages):
            options["tool_choice"] = forced
        if not self.parallel_tool_calls:
            if "parallel_tool_calls" not in inspect.signature(model.bind_tools).parameters:
                raise InvalidRequest(
                    "The model of this agent cannot be told to make one call at a time: leave parallel_tool_calls out.",
                    param="parallel_tool_calls",
                )
            options["parallel_tool_calls"] = False
        return model.bind_tools(offered, **options, **manner)

    def _manner(self, model: BaseChatModel) -> dict[str, Any]:
        known, reasoning = type(model).model_fields, self.reasoning or {}
        manner: dict[str, Any] = {}
        for name in ("presence_penalty", "frequency_penalty"):
            if penalty := getattr(self, name):
                if name not in known:
                    raise InvalidRequest(f"The model of this agent has no {name}: leave it out.", param=name)
                manner[name] = penalty
        if self.verbosity and "verbosity" in known:
            manner["verbosity"] = self.verbosity
        if reasoning.get("summary") and "reasoning" in known:
            manner["reasoning"] = {name: value for name, value in reasoning.items() if value}
        elif reasoning.get("effort") and "reasoning_effort" in known:
            manner["reasoning_effort"] = reasoning["effort"]
        return manner

    def _form(self, model: BaseChatModel) -> dict[str, Any]:
        """The arguments by which LangChain lets the model's provider keep to a form."""
        if self.text_format is None:
            return {}
        schema, method = None, "json_mode"
        options: dict[str, Any] = {}
        if self.text_format["type"] == "json_schema":
            described = {"title": self.text_format["name"], "description": self.text_format["description"] or ""}
            schema, method = self.text_format["schema"] | described, "json_schema"
            if "strict" in inspect.signature(model.with_structured_output).parameters:
                options["strict"] = self.text_format["strict"]
        try:
            structured: Any = model.with_structured_output(schema, method=method, **options)  # type: ignore[arg-type]
        except (NotImplementedError, TypeError, ValueError):
            structured = None
        form = dict(getattr(getattr(structured, "first", None), "kwargs", {}))
        if not form or "tools" in form:  # by a tool it would be LangChain's means, not the provider's
            raise InvalidRequest(
                f"The model of this agent cannot answer in the form {self.text_format['type']}: leave text.format out.",
                param="text.format",
            )
        return form


def _name_of(tool: BaseTool | dict[str, Any]) -> str:
    return str(tool["function"]["name"]) if isinstance(tool, dict) else tool.name


def _has_called(messages: Sequence[BaseMessage]) -> bool:
    """Whether a call was made since the user's last message."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return False
        if isinstance(message, AIMessage) and message.tool_calls:
            return True
    return False
