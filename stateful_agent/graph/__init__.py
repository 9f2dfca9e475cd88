"""The built-in agent: a graph of a model step and a tools step, the models it can use, and its tools."""

from stateful_agent.graph.build import CompiledGraph, build_graph
from stateful_agent.graph.configured import configured_model, configured_tools
from stateful_agent.graph.databricks_tools import databricks_tools
from stateful_agent.graph.mcp_tools import mcp_tools
from stateful_agent.graph.memory_tools import memory_tools
from stateful_agent.graph.model_settings import ModelSettings
from stateful_agent.graph.models import chat_model
from stateful_agent.graph.offline_model import OFFLINE_MODEL, OfflineModel
from stateful_agent.graph.tools import current_time, search_tool

__all__ = [
    "OFFLINE_MODEL",
    "CompiledGraph",
    "ModelSettings",
    "OfflineModel",
    "build_graph",
    "chat_model",
    "configured_model",
    "configured_tools",
    "current_time",
    "databricks_tools",
    "mcp_tools",
    "memory_tools",
    "search_tool",
]
