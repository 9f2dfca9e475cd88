"""Your agent: its prompt, its model, its tools and its graph. Edit it: the library does the rest.

`make serve` serves it; `from agent import AGENT` talks to it from Python.
"""

from langchain_core.tools import BaseTool
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent, Settings
from stateful_agent.graph import (
    OFFLINE_MODEL,
    CompiledGraph,
    build_graph,
    configured_model,
    configured_tools,
    current_time,
)

settings = Settings()

PROMPT = settings.agent_system_prompt or (
    "You are a helpful assistant. Use the tools you have when they help, several at once if need be. "
    "What was said earlier in the conversation counts: use it."
)
"""What the model is told ahead of every conversation. It is never stored in a thread."""


# A tool of your own is a function with a docstring, which tells the model what it is for:
#
# @tool                                     (from langchain_core.tools import tool)
# def order_status(order_id: str) -> str:
#     """Look up where an order is."""
#     return my_shop.status(order_id)


def tools() -> list[BaseTool]:
    """What the model can call. Add yours to the list; the settings add the web, memory, MCP servers and Databricks."""
    return [current_time, *configured_tools(settings)]


def graph() -> CompiledGraph:
    """A model step and a tools step, in turns, until the model has its answer. Built when the agent is first used.

    Any LangGraph graph whose state has `messages` can stand here instead.
    """
    steps = build_graph(
        configured_model(settings.agent_model, settings),
        tools(),
        PROMPT,
        settings.tool_timeout,
        settings.tools_to_approve,
        max_tool_result_chars=settings.max_tool_result_chars,
        fallbacks=[configured_model(name, settings) for name in settings.agent_fallback_models],
        model_timeout=settings.model_timeout,
        context_tokens=settings.context_tokens,
        summarize=settings.summarize,
        prompt_caching=settings.prompt_caching,
    )
    return steps.compile(name=settings.agent_model or OFFLINE_MODEL)


AGENT = LangGraphResponsesAgent(graph, settings)
set_model(AGENT)
