"""What a request asks of the model for one turn, the functions that a client brings along among it."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from stateful_agent.errors import InvalidRequest


@dataclass(frozen=True)
class ModelSettings:
    """What a request asks of the model for one turn: LangGraph's context of a graph that heeds it. Never stored."""

    instructions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    tools: Sequence[dict[str, Any]] = ()
    """The client's own functions, as LangChain's `bind_tools` takes them: a call of one ends the turn."""

    tool_choice: str | dict[str, Any] = "auto"
    """`auto`, `none`, `required`, or as in a request: one function, or those that are allowed."""

    parallel_tool_calls: bool = True

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
        """The model with its own tools and the client's, to be chosen from as the request says.

        A choice that is forced is so once a turn: `messages` show whether a call was made since the user's last.

        Raises:
            InvalidRequest: the model cannot be told to make one call at a time.
        """
        choice: dict[str, Any] = self.tool_choice if isinstance(self.tool_choice, dict) else {"type": self.tool_choice}
        offered: list[Any] = [] if choice["type"] == "none" else [*tools, *self.tools]
        forced = "any" if "required" in (choice["type"], choice.get("mode")) else None  # as LangChain calls it
        if choice["type"] == "allowed_tools":
            allowed = {tool["name"] for tool in choice["tools"]}
            offered = [tool for tool in offered if _name_of(tool) in allowed]
        elif choice["type"] == "function":
            forced = choice["name"]
        if not offered:
            return model
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
        return model.bind_tools(offered, **options)


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
