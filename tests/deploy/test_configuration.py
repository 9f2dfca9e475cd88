"""What a deployed agent is configured with."""

import pytest
from pydantic import ValidationError

from stateful_agent.deploy import Failure
from stateful_agent.deploy.configuration import configuration, settings_of

LAKEBASE = {"LAKEBASE_INSTANCE_NAME": "memory"}
SERVER = '{"t": {"url": "https://t", "headers": {"Authorization": "%s"}}}'


def test_settings_that_are_set_here_go_along() -> None:
    here = LAKEBASE | {"AGENT_MODEL": "databricks:e", "MAX_STEPS": "7", "HOME": "/root", "AGENT_DATA_DIR": "/data"}
    found = configuration(here)
    assert found.variables == LAKEBASE | {"AGENT_MODEL": "databricks:e", "MAX_STEPS": "7"}
    assert found.settings().max_steps == 7


def test_so_do_those_of_the_models_provider() -> None:
    here = LAKEBASE | {"AGENT_MODEL": "openai:m", "OPENAI_BASE_URL": "https://o/v1", "ANTHROPIC_BASE_URL": "https://a"}
    found = configuration(here, secrets={"OPENAI_API_KEY": "agent/openai"})
    assert found.variables == LAKEBASE | {"AGENT_MODEL": "openai:m", "OPENAI_BASE_URL": "https://o/v1"}
    assert found.environment_vars()["OPENAI_API_KEY"] == "{{secrets/agent/openai}}"


def test_what_is_given_wins_and_what_is_not_known_goes_along() -> None:
    found = configuration(LAKEBASE | {"MAX_STEPS": "7"}, {"MAX_STEPS": "8", "REGION": "eu"})
    assert found.variables == LAKEBASE | {"MAX_STEPS": "8", "REGION": "eu"}


@pytest.mark.parametrize("given", [{}, {"DATABASE_URL": "{{secrets/agent/database}}"}])
def test_a_secret_goes_along_by_its_name(given: dict[str, str]) -> None:
    secrets = {} if given else {"DATABASE_URL": "agent/database"}
    here = {"DATABASE_URL": "postgresql://me:pa55word@db/x"}
    found = configuration({} if given else here, given, secrets)
    assert found.variables == {}
    assert found.environment_vars() == {"DATABASE_URL": "{{secrets/agent/database}}"}


def test_any_setting_can_be_a_secret() -> None:
    found = configuration(LAKEBASE | {"MCP_SERVERS": SERVER % "Bearer t5ecret"}, secrets={"MCP_SERVERS": "agent/mcp"})
    assert (found.variables, found.secrets) == (LAKEBASE, {"MCP_SERVERS": "agent/mcp"})


@pytest.mark.parametrize(
    ("here", "given", "reason"),
    [
        ({}, {}, "^The conversations would be lost"),
        ({"AGENT_DATA_DIR": "/data"}, {}, "^The conversations would be lost"),
        ({"DATABASE_URL": "postgresql://db/x"}, {}, "^DATABASE_URL is secret"),
        (LAKEBASE, {"LANGGRAPH_AES_KEY": "0123456789abcdef"}, "^LANGGRAPH_AES_KEY is secret"),
        (LAKEBASE | {"DECRYPTION_KEYS": "0123456789abcdef"}, {}, "^DECRYPTION_KEYS is secret"),
        (LAKEBASE, {"TICKETS_TOKEN": "t"}, "^TICKETS_TOKEN is secret"),
        (LAKEBASE, {"BROKER": "amqp://me:pa55word@broker"}, "^BROKER is secret"),
        (LAKEBASE | {"AGENT_MODEL": "openai:m"}, {}, "needs OPENAI_API_KEY .* --secret OPENAI_API_KEY=SCOPE/KEY"),
        (LAKEBASE | {"AGENT_MODEL": "openai:m", "OPENAI_API_KEY": "sk-5ecret"}, {}, "^OPENAI_API_KEY is secret"),
        (LAKEBASE | {"AGENT_FALLBACK_MODELS": "anthropic:m"}, {}, "needs ANTHROPIC_API_KEY"),
        (LAKEBASE | {"AGENT_MODEL": "ollama:m"}, {}, "needs OLLAMA_HOST .* --env OLLAMA_HOST=VALUE"),
        (LAKEBASE | {"MCP_SERVERS": SERVER % "Bearer ${TICKETS_TOKEN}"}, {}, "needs TICKETS_TOKEN"),
        (LAKEBASE | {"MCP_SERVERS": SERVER % "Bearer t5ecret"}, {}, r"^MCP_SERVERS has a secret .* \(Authorization\)"),
    ],
)
def test_what_is_refused(here: dict[str, str], given: dict[str, str], reason: str) -> None:
    with pytest.raises(Failure, match=reason) as refused:
        configuration(here, given)
    assert "5" not in str(refused.value)


def test_a_setting_that_is_wrong() -> None:
    with pytest.raises(ValidationError, match="max_steps"):
        configuration(LAKEBASE | {"MAX_STEPS": "0"})


def test_the_settings_of_this_process_are_not_the_deployed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_STEPS", "7")
    assert settings_of({}).max_steps == 100
