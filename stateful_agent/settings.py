"""Everything configurable, read from the environment in one place."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """The agent's settings; each is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    agent_model: str | None = None
    """The chat model as `provider:model`, e.g. `databricks:<endpoint>` or `openai:gpt-5`. Unset: the offline model.

    Providers: `databricks`, `openai`, `azure_openai`, `anthropic`, `bedrock_converse`, `google_genai`, `ollama`, and
    what else LangChain's `init_chat_model` knows, once its package is installed.
    """

    use_responses_api: bool = False
    """Whether models of OpenAI, Azure and Databricks are asked over OpenAI's Responses API, instead of as chat."""

    agent_fallback_models: Annotated[tuple[str, ...], NoDecode] = ()
    """Other models, separated by commas: each is asked where the one before it could not be reached."""

    model_timeout: float = Field(default=180.0, gt=0)
    """Seconds that the model may be silent, before its answer and amid it. Then the turn fails."""

    model_retries: int = Field(default=2, ge=0)
    """How often a model that cannot be reached, or has no time, is asked again, while it has not begun to answer."""

    context_tokens: int | None = Field(default=None, ge=1)
    """About how many tokens are sent to the model at most: of a longer conversation, the newest turns. Unset: all."""

    summarize: bool = False
    """Whether the model makes a summary of what is not sent of a conversation for its length, which is sent instead."""

    prompt_caching: bool = False
    """Whether Anthropic and Bedrock are told to cache prompts, as other providers do by themselves."""

    agent_system_prompt: str | None = None
    """What the model is told ahead of every conversation, instead of the prompt in `agent.py`."""

    mcp_servers: dict[str, dict[str, Any]] = {}
    """MCP servers whose tools the agent has, as JSON by their names: `{"files": {"command": "npx", "args": [...]}}`, or
    `{"tickets": {"url": "https://...", "headers": {"Authorization": "Bearer ${TICKETS_TOKEN}"}}}`."""

    uc_functions: Annotated[tuple[str, ...], NoDecode] = ()
    """Functions of Unity Catalog that the agent has as tools, separated by commas: `catalog.schema.function`, or
    `catalog.schema.*`."""

    genie_spaces: Annotated[tuple[str, ...], NoDecode] = ()
    """The ids of Genie spaces that the agent can ask, separated by commas."""

    vector_search_indexes: Annotated[tuple[str, ...], NoDecode] = ()
    """Indexes of Databricks' Vector Search that the agent can search, separated by commas: `catalog.schema.index`."""

    tool_timeout: float = Field(default=300.0, gt=0)
    """Seconds that a tool may take. Then its result is that it did not finish."""

    max_tool_result_chars: int = Field(default=200_000, ge=1)
    """Characters of a tool's result that the model reads at most. The rest is cut off."""

    max_steps: int = Field(default=100, ge=1)
    """Steps of a turn at most. Then it ends with a message that it took too many."""

    tools_to_approve: Annotated[tuple[str, ...], NoDecode] = ()
    """The tools, separated by commas, of which no call runs before a person has approved it."""

    tool_items: Literal["function_call", "mcp_call", "hidden"] = "function_call"
    """How answers show the agent's own tool calls, unless a request chooses: as function calls with their outputs, as
    `mcp_call`, or not at all."""

    memory: bool = False
    """Whether the built-in agent can remember things across threads, and recall them, by tools."""

    embedding_model: str | None = None
    """The model as `provider:model`, e.g. `openai:text-embedding-3-small` or `databricks:<endpoint>`, by which what is
    remembered is found by its meaning. Unset: not by its meaning."""

    embedding_dimensions: int | None = Field(default=None, ge=1, le=4000)
    """How many numbers the vectors of `embedding_model` have."""

    keep_alive: float = Field(default=15.0, gt=0)
    """Seconds of silence after which a stream sends a comment, so that no proxy takes it for dead."""

    tavily_api_key: SecretStr | None = None
    """Lets the search tool search the web, through Tavily. Unset: it searches a small built-in sample."""

    database_url: SecretStr | None = None
    """A Postgres to keep state in, as a URL. Unset, and no Lakebase named: an embedded one in `agent_data_dir`."""

    database_schema: str | None = None
    """The schema that the tables are in. Unset: the first one of the role's search_path."""

    agent_data_dir: Path = Path(".local")
    """Where the embedded Postgres keeps its files."""

    lakebase_instance_name: str | None = None
    """The provisioned Lakebase instance to keep state in."""

    lakebase_autoscaling_endpoint: str | None = None
    """Or the autoscaling Lakebase endpoint, as `projects/<project>/branches/<branch>/endpoints/<endpoint>`."""

    lakebase_autoscaling_project: str | None = None
    """Or the autoscaling Lakebase project, with a branch: state is kept at the branch's endpoint for writing."""

    lakebase_autoscaling_branch: str | None = None
    """The branch of `lakebase_autoscaling_project`."""

    database_pool_size: int = Field(default=10, ge=1)
    """Connections to the database at most. A turn borrows one for milliseconds at a time."""

    database_timeout: float = Field(default=10.0, gt=0)
    """Seconds to wait for a connection before a request is answered 503."""

    langgraph_aes_key: SecretStr | None = None
    """Encrypts what is stored: 16, 24 or 32 bytes. LangGraph's own variable. Unset: it is stored as it is."""

    decryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Other keys that what is stored may be encrypted with, separated by commas; as a JSON list if they have commas."""

    encryption_required: bool = False
    """Whether to refuse what is stored without encryption, instead of reading it and encrypting what is added."""

    event_log_seconds: float = Field(
        default=3600.0, ge=0, validation_alias=AliasChoices("event_log_seconds", "journal_seconds")
    )
    """Seconds for which responses can be retrieved, and retries of their requests are known. 0: not at all. The older
    name, `JOURNAL_SECONDS`, is read as well."""

    log_format: Literal["text", "json"] = "text"
    """How the server logs: as lines for people, or as JSON objects with the ids of the turn, and none of its text."""

    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """From which level on the server logs. `info` tells the end of each turn."""

    thread_timeout: float = Field(default=60.0, ge=0)
    """Seconds that a turn waits for others on its thread, until it is refused as `thread_busy`."""

    trusted_identity: str | None = None
    """What names the user of a request: `context` (its `context.user_id`), or a header, such as `X-Forwarded-User`.

    Then each thread belongs to whoever began it. Name only what the caller cannot set: a header that the proxy in
    front of the server overwrites, or the context if nobody but trusted programs can call. Unset: whoever knows a
    thread's id may use it.
    """

    allowed_origins: str | None = None
    """The origins whose web pages may call, separated by commas; `*` for all. Unset: the server's own only."""

    allowed_hosts: str | None = None
    """Names by which the server may be asked, separated by commas. Unset: any; on a loopback address, its own."""

    max_input_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """The largest input of a request, in bytes of JSON. The default is what Databricks serving accepts."""

    max_input_items: int = Field(default=5_000, ge=1)
    """Items in the input of a request at most."""

    max_thread_messages: int = Field(default=10_000, ge=1)
    """Messages of a conversation at most, on each branch: a turn goes through all of them."""

    @model_validator(mode="after")
    def _check_embeddings(self) -> Self:
        if (self.embedding_model is None) != (self.embedding_dimensions is None):
            raise ValueError("EMBEDDING_MODEL and EMBEDDING_DIMENSIONS go together: set both or none.")
        if self.embedding_model and self.langgraph_aes_key:
            raise ValueError(
                "EMBEDDING_MODEL and LANGGRAPH_AES_KEY exclude each other: vectors tell what is encrypted."
            )
        return self

    @field_validator("decryption_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        if isinstance(value, str):
            return json.loads(value) if value.startswith("[") else value.split(",")
        return value

    @field_validator(
        "tools_to_approve",
        "agent_fallback_models",
        "uc_functions",
        "genie_spaces",
        "vector_search_indexes",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, (name.strip() for name in value.split(",")))) if isinstance(value, str) else value
