"""The providers of models that are stood in for, how the agent finds their APIs, and what works with which."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from anthropic_api import Anthropic
from bedrock_api import Bedrock
from langchain_core.tools import tool
from model_apis import (
    ModelApi,
)
from openai_apis import ChatCompletions, DatabricksServing, Responses
from walking import user


@dataclass(frozen=True)
class Provider:
    """How the agent finds a provider's API."""

    api: type[ModelApi]
    model: str
    environment: dict[str, str]
    use_responses_api: bool = False


PROVIDERS = {
    "databricks": Provider(
        DatabricksServing, "databricks:m", {"DATABRICKS_HOST": "{url}", "DATABRICKS_TOKEN": "dapi5ecret5ecret"}
    ),
    "openai": Provider(
        ChatCompletions, "openai:m", {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "sk-5ecret5ecret"}
    ),
    "azure_openai": Provider(
        ChatCompletions,
        "azure_openai:m",
        {
            "AZURE_OPENAI_ENDPOINT": "{url}",
            "AZURE_OPENAI_API_KEY": "5ecret",
            "OPENAI_API_VERSION": "2025-03-01-preview",
        },
    ),
    "anthropic": Provider(
        Anthropic, "anthropic:m", {"ANTHROPIC_API_URL": "{url}", "ANTHROPIC_API_KEY": "sk-5ecret5ecret"}
    ),
    "bedrock_converse": Provider(
        Bedrock,
        "bedrock_converse:anthropic.claude-sonnet-4-5-20250929-v1:0",
        {
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "{url}",
            "AWS_ACCESS_KEY_ID": "AKIA5ECRET5ECRET",
            "AWS_SECRET_ACCESS_KEY": "5ecret",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    ),
}
for name in ("databricks", "openai", "azure_openai"):
    chat = PROVIDERS[name]
    PROVIDERS[f"{name} responses"] = replace(chat, api=Responses, use_responses_api=True)
RESPONSES = [name for name, provider in PROVIDERS.items() if provider.use_responses_api]
ALL = list(PROVIDERS)
ASPECTS = {
    "text, token by token": ALL,
    "calls of tools, also at once": ALL,
    "usage, with cached tokens": ALL,
    "the prompt begins as before: after turns, forks, replays": ALL,
    "what is to be cached is marked": ["anthropic", "bedrock_converse"],
    "thoughts are told": ["databricks", "anthropic", "bedrock_converse", *RESPONSES],
    "thoughts go back with their signature": ["anthropic", "bedrock_converse", *RESPONSES],
    "thoughts of another provider do not": ALL,
    "citations of pages": ["openai", "azure_openai", "anthropic", "bedrock_converse", *RESPONSES],
    "citations of documents": ["anthropic", "bedrock_converse"],
    "images": ALL,
    "images by their URL": [name for name in ALL if name != "bedrock_converse"],
    "files: PDF, text": ALL,
    "files by their URL": ["anthropic", *RESPONSES],
    "an answer that is cut off, or refused": ALL,
    "failures, before the answer and amid it": ALL,
    "a stream that ends early": ALL,
    "retries, silence": ALL,
}
"""What works with which providers. The tests take it from here, and docs/models.md shows it."""


@tool
def look(place: str) -> str:
    """Look at a place."""
    return f"{place} is fine"


@dataclass
class Talk:
    """An agent on a provider's API."""

    api: ModelApi
    agent: Any

    def events(self, text: str = "hello", **ref: Any) -> list[Any]:
        request = {"input": [user(text)], "custom_inputs": {"thread_id": "t"} | ref}
        return [event.model_dump() for event in self.agent.predict_stream(request)]

    def say(self, text: str = "hello", **ref: Any) -> Any:
        request = {"input": [user(text)], "custom_inputs": {"thread_id": "t"} | ref}
        return self.agent.predict(request).model_dump(exclude_none=True)


Talks = Callable[..., Talk]
