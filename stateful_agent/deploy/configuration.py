"""What an agent is configured with where it is deployed: the settings that are set here, and its model's variables.

What is secret goes along as the name of a secret of the workspace, never as itself.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from stateful_agent.deploy.failure import Failure
from stateful_agent.settings import Settings

SECRET_SETTINGS = {
    name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}

AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION", "AWS_DEFAULT_REGION")

PROVIDER_VARIABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openai": (("OPENAI_API_KEY",), ("OPENAI_BASE_URL",)),
    "azure_openai": (("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION"), ()),
    "anthropic": (("ANTHROPIC_API_KEY",), ("ANTHROPIC_BASE_URL",)),
    "bedrock_converse": ((), AWS),
    "bedrock": ((), AWS),
    "google_genai": (("GOOGLE_API_KEY",), ()),
    "ollama": (("OLLAMA_HOST",), ()),
}
"""The variables that the models of a provider need, and those that they heed. On AWS, a role can stand for keys."""

NAMES = {*Settings.model_fields, "journal_seconds"}
"""The settings, with the older name of one."""

SETTINGS_VARIABLES = {name.upper() for name in NAMES} | {
    name for variables in PROVIDER_VARIABLES.values() for names in variables for name in names
}
"""All variables that an agent of this library, or its model, reads."""

OF_THIS_MACHINE = {"AGENT_DATA_DIR"}
"""Settings that say nothing elsewhere."""

LOOKS_SECRET = re.compile(r"(?:^|_|-)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|AUTHORIZATION)(?:_ID)?$", re.I)
HOLDS_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
REFERENCE = re.compile(r"\{\{secrets/([^/{}]+)/([^/{}]+)\}\}")
VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Configuration:
    """The environment variables of a deployed agent."""

    variables: dict[str, str]
    """Those that anyone may read, with their values."""

    secrets: dict[str, str]
    """Those that are secret, each with the `scope/key` of the workspace's secret that has the value."""

    def environment_vars(self) -> dict[str, str]:
        """All of them, as Model Serving takes them."""
        return self.variables | {name: f"{{{{secrets/{place}}}}}" for name, place in self.secrets.items()}

    def settings(self) -> Settings:
        """The settings that they make. The values of secrets are not known here, only that there are some."""
        return settings_of(self.variables | {name: "secret" for name in self.secrets if name in SECRET_SETTINGS})


def configuration(
    environment: Mapping[str, str], given: Mapping[str, str] | None = None, secrets: Mapping[str, str] | None = None
) -> Configuration:
    """The variables of a deployed agent: of this `environment` the settings and those that its models need.

    `given` are others, by their names, and win. `secrets` has the `scope/key` of each secret one.

    Raises:
        Failure: something secret is in plain text, something that the model needs is missing, or the conversations
            would be lost with the machine that the agent runs on.
        pydantic.ValidationError: a setting is wrong.
    """
    here = {name: value for name, value in environment.items() if value and name not in OF_THIS_MACHINE}
    set_here = _parted(
        {name: value for name, value in here.items() if name.lower() in NAMES} | dict(given or {}), secrets
    )
    providers = _providers(set_here.settings())
    heeded = {name: here[name] for name in _variables_of(providers) & here.keys()}
    complete = _parted(heeded | set_here.variables, set_here.secrets)
    for name, value in complete.variables.items():
        if name in SECRET_SETTINGS or LOOKS_SECRET.search(name) or HOLDS_PASSWORD.search(value):
            raise Failure(
                f"{name} is secret: put it into a secret scope of the workspace (databricks secrets put-secret SCOPE "
                f"KEY), and name it with --secret {name}=SCOPE/KEY."
            )
    settings = complete.settings()
    for name in _needed(providers, settings):
        if name not in complete.environment_vars():
            secret = LOOKS_SECRET.search(name)
            how = f"--secret {name}=SCOPE/KEY" if secret else f"--env {name}=VALUE"
            raise Failure(f"The agent needs {name} where it is deployed: give it with {how}.")
    _refuse_secrets_in(settings.mcp_servers)
    if not keeps_state(settings):
        raise Failure(
            "The conversations would be lost: the embedded database is gone with the machine that the agent runs on. "
            "Set LAKEBASE_INSTANCE_NAME, or LAKEBASE_AUTOSCALING_*, or give --secret DATABASE_URL=SCOPE/KEY."
        )
    return complete


def _parted(values: Mapping[str, str], secrets: Mapping[str, str] | None) -> Configuration:
    """Variables with their values, apart from those that are secret, or whose value refers to a secret."""
    places = dict(secrets or {})
    for name, value in values.items():
        if found := REFERENCE.fullmatch(value):
            places.setdefault(name, f"{found[1]}/{found[2]}")
    return Configuration({name: value for name, value in values.items() if name not in places}, places)


def keeps_state(settings: Settings) -> bool:
    """Whether the settings name a database that is not of this machine."""
    return bool(settings.database_url) or any(value for name, value in settings if name.startswith("lakebase_"))


def settings_of(variables: Mapping[str, str]) -> Settings:
    """The settings that environment variables make, without those of this process.

    Raises:
        pydantic.ValidationError: a setting is wrong.
    """

    class Given(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str]:
            return {name.lower(): value for name, value in variables.items()}

    class Elsewhere(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (Given(settings_cls),)

    return Elsewhere()


def _providers(settings: Settings) -> list[str]:
    """The providers of the agent's models."""
    models = [settings.agent_model, *settings.agent_fallback_models, settings.embedding_model]
    return list(dict.fromkeys(model.partition(":")[0] for model in models if model))


def _variables_of(providers: Iterable[str]) -> set[str]:
    """The variables that the models of providers need or heed."""
    none: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    return {name for one in providers for names in PROVIDER_VARIABLES.get(one, none) for name in names}


def _needed(providers: Iterable[str], settings: Settings) -> Iterable[str]:
    """The variables that the models need, and those that take the place of tokens of MCP servers."""
    for provider in providers:
        yield from PROVIDER_VARIABLES.get(provider, ((), ()))[0]
    for text in _texts(settings.mcp_servers):
        yield from VARIABLE.findall(text[1])


def _refuse_secrets_in(servers: Any) -> None:
    for key, text in _texts(servers):
        if (LOOKS_SECRET.search(key) and not VARIABLE.search(text)) or HOLDS_PASSWORD.search(text):
            raise Failure(
                f"MCP_SERVERS has a secret in plain text ({key}): write ${{NAME}} there, and name the secret with "
                "--secret NAME=SCOPE/KEY."
            )


def _texts(value: Any, key: str = "") -> Iterable[tuple[str, str]]:
    """All texts within JSON, each with the key that it is under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
