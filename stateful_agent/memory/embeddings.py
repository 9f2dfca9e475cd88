"""Texts as vectors, by a provider's model, so that what is remembered is found by its meaning."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Self

from langchain_core.embeddings import Embeddings
from langgraph.store.postgres.base import PostgresIndexConfig

from stateful_agent.checkpoints.tables import vector_index
from stateful_agent.errors import Misconfigured
from stateful_agent.failures import typed
from stateful_agent.graph.models import PROVIDERS
from stateful_agent.settings import Settings

EMBEDDING_PROVIDERS = {"bedrock": PROVIDERS["bedrock_converse"]} | PROVIDERS
"""The packages of the providers, by LangChain's names of them: it calls Bedrock's differently here."""


class TextEmbeddings:
    """The model of EMBEDDING_MODEL, made when it is first asked."""

    def __init__(self, name: str, index: PostgresIndexConfig) -> None:
        """`index` is how the vectors are kept."""
        self._name = name
        self.index = index

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Those that the settings name, if they do."""
        index = vector_index(settings)
        return cls(settings.embedding_model, index) if settings.embedding_model and index else None

    @cached_property
    def _model(self) -> Embeddings:
        return embedding_model(self._name)

    async def vectors(self, texts: Sequence[str]) -> dict[str, list[float]]:
        """The vector of each text.

        Raises:
            Misconfigured: there is no such model, or it lacks a credential.
            ModelFailed: the model does not answer; or a more exact one of its kind.
        """
        if not texts:
            return {}
        unique = list(dict.fromkeys(texts))
        model = self._model
        try:
            vectors = await model.aembed_documents(unique)
        except Exception as error:  # each provider has errors of its own
            raise typed(error) from error
        return dict(zip(unique, vectors, strict=True))


def embedding_model(name: str) -> Embeddings:
    """The model called `provider:model`, in the naming of LangChain's `init_embeddings`, or `databricks:endpoint`.

    Raises:
        Misconfigured: the provider is unknown, its package is missing, or it lacks a credential.
    """
    provider, _, model = name.partition(":")
    package, extra = EMBEDDING_PROVIDERS.get(provider, (None, None))
    if package and find_spec(package) is None:
        raise Misconfigured(f"EMBEDDING_MODEL={name} needs a package: pip install 'stateful-agent[{extra}]'")
    # OpenAI's class would cut texts into tokens itself, with a tokenizer that it downloads.
    options: dict[str, Any] = {"check_embedding_ctx_length": False} if package == "langchain_openai" else {}
    try:
        if provider == "databricks":
            from databricks_langchain import DatabricksEmbeddings

            return DatabricksEmbeddings(endpoint=model)
        from langchain.embeddings import init_embeddings

        return init_embeddings(name, **options)
    except Exception as error:  # each provider's package has errors of its own
        raise Misconfigured(f"EMBEDDING_MODEL={name}: {error}") from error
