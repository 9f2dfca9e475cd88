"""Which chat model the agent talks to: a provider's, or the built-in offline one."""

from importlib.util import find_spec
from typing import Any

from langchain_core.language_models import BaseChatModel

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.offline_model import OfflineModel

PROVIDERS = {
    "anthropic": ("langchain_anthropic", "anthropic"),
    "azure_openai": ("langchain_openai", "openai"),
    "bedrock_converse": ("langchain_aws", "bedrock"),
    "databricks": ("databricks_langchain", "databricks"),
    "google_genai": ("langchain_google_genai", "google"),
    "ollama": ("langchain_ollama", "ollama"),
    "openai": ("langchain_openai", "openai"),
}
"""The package that each provider's models are in, and the extra of ours that installs it."""


RESPONSES_API = ("azure_openai", "databricks", "openai")
"""The providers whose models can be asked over OpenAI's Responses API."""


def chat_model(
    name: str | None, *, max_retries: int = 2, timeout: float | None = None, use_responses_api: bool = False
) -> BaseChatModel:
    """The model called `provider:model`, in the naming of LangChain's `init_chat_model`; the offline one for `None`.

    Its client asks again up to `max_retries` times, with growing pauses, while it has no answer yet; after `timeout`
    seconds of silence an attempt has failed. With `use_responses_api`, providers that have it are asked over OpenAI's
    Responses API: there, what a model thinks is kept, encrypted, for the turns that follow. Importing a provider's
    package takes seconds, so it happens here and not at the top.

    Raises:
        Misconfigured: the provider is unknown, its package is missing, or it lacks a credential.
    """
    if name is None:
        return OfflineModel()
    provider, _, model = name.partition(":")
    package, extra = PROVIDERS.get(provider, (None, None))
    if package and find_spec(package) is None:
        raise Misconfigured(f"AGENT_MODEL={name} needs a package: pip install 'stateful-agent[{extra}]'")
    options: dict[str, Any] = {"max_retries": max_retries, "timeout": timeout}
    if provider == "ollama":  # whose client does not ask again
        options = {"client_kwargs": {"timeout": timeout}}
    if use_responses_api and provider in RESPONSES_API:
        # The conversation is kept here, and not with the provider as well.
        kept_here = {"store": False, "include": ["reasoning.encrypted_content"]}
        options |= {"use_responses_api": True, "output_version": "responses/v1", **kept_here}
    try:
        if provider == "databricks" and use_responses_api:
            from stateful_agent.graph.openai_models import databricks_responses_model

            return databricks_responses_model(model, **options)
        if provider == "databricks":
            from stateful_agent.graph.databricks_model import ChatDatabricks

            return ChatDatabricks(endpoint=model, **options)
        if provider in ("openai", "azure_openai"):
            from stateful_agent.graph.openai_models import AzureModel, OpenAIModel

            options["stream_usage"] = True  # else a server that is compatible with OpenAI's is not asked for it
            if provider == "azure_openai":
                return AzureModel(azure_deployment=model, **options)
            return OpenAIModel(model=model, **options)
        from langchain.chat_models import init_chat_model

        return init_chat_model(name, **options)
    except Exception as error:  # each provider's package has errors of its own
        raise Misconfigured(f"AGENT_MODEL={name}: {error}") from error
