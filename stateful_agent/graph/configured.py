"""The model and the tools that the settings name."""

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool

from stateful_agent.graph.databricks_tools import databricks_tools
from stateful_agent.graph.mcp_tools import mcp_tools
from stateful_agent.graph.memory_tools import memory_tools
from stateful_agent.graph.models import chat_model
from stateful_agent.graph.tools import search_tool
from stateful_agent.settings import Settings


def configured_model(name: str | None, settings: Settings) -> BaseChatModel:
    """The model called `provider:model`, asked as the settings say. Raises what `chat_model` does."""
    return chat_model(
        name,
        max_retries=settings.model_retries,
        timeout=settings.model_timeout,
        use_responses_api=settings.use_responses_api,
    )


def configured_tools(settings: Settings) -> list[BaseTool]:
    """A search, and what the settings name besides: memory, MCP servers, tools on Databricks.

    Raises:
        Misconfigured: one of them cannot be reached, or needs a package that is not installed.
    """
    return [
        search_tool(settings.tavily_api_key),
        *(memory_tools if settings.memory else ()),
        *mcp_tools(settings.mcp_servers),
        *databricks_tools(settings.uc_functions, settings.genie_spaces, settings.vector_search_indexes),
    ]
