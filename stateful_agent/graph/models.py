"""Which chat model the agent talks to: a provider's, or the built-in offline one."""

from importlib.util import find_spec

from langchain_core.language_models import BaseChatModel

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.offline_model import OfflineModel


def chat_model(name: str | None) -> BaseChatModel:
    """The model called `provider:model`, in the naming of LangChain's `init_chat_model`; the offline one for `None`.

    Importing a provider's package takes seconds, so it happens here and not at the top.

    Raises:
        Misconfigured: the provider is unknown, its package is missing, or it lacks a credential.
    """
    if name is None:
        return OfflineModel()
    provider, _, model = name.partition(":")
    for prefix, package in (("databricks", "databricks_langchain"), ("openai", "langchain_openai")):
        if provider == prefix and find_spec(package) is None:
            raise Misconfigured(f"AGENT_MODEL={name} needs a package: pip install 'stateful-agent[{prefix}]'")
    try:
        if provider == "databricks":
            from databricks_langchain import ChatDatabricks

            return ChatDatabricks(endpoint=model)
        from langchain.chat_models import init_chat_model

        return init_chat_model(name)
    except Exception as error:  # each provider's package has errors of its own
        raise Misconfigured(f"AGENT_MODEL={name}: {error}") from error
