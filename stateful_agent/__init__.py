"""A LangGraph agent with time travel, served as an MLflow model.

The rooms, from the caller down to the disk:

server, deploy      HTTP and processes; logging a model and putting it into production
evaluation          conversations that are played with an agent and scored, through MLflow
agent               `LangGraphResponsesAgent`: one turn, in six steps
turn, responses     what a request asks for, and an answer as events: pure functions on OpenAI's wire format
runs, time_travel   turns that outlive their request; history, branches, edits and threads
checkpoints         LangGraph's saver on our tables: lease, write batch, message log, serializer
database            the connection pool, the embedded Postgres, Lakebase, migrations, and every statement as SQL
graph               the built-in agent's graph, models and tools
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stateful_agent.agent import LangGraphResponsesAgent
    from stateful_agent.errors import AgentError
    from stateful_agent.settings import Settings

__all__ = ["AgentError", "LangGraphResponsesAgent", "Settings"]

_MODULES = {
    "AgentError": "stateful_agent.errors",
    "LangGraphResponsesAgent": "stateful_agent.agent",
    "Settings": "stateful_agent.settings",
}


def __getattr__(name: str) -> Any:
    """Import what is exported when it is first asked for: MLflow takes seconds, which `--help` need not wait for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
