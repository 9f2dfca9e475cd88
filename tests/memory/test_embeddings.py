"""What is remembered is found by its meaning, by a provider's model and pgvector."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from conftest import eventually
from databases import value
from embeddings_api import DIMENSIONS, EmbeddingsApi
from pydantic import ValidationError

from stateful_agent import LangGraphResponsesAgent
from stateful_agent.errors import Misconfigured, ModelFailed
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.offline_model import OfflineModel
from stateful_agent.memory.embeddings import embedding_model
from stateful_agent.settings import Settings


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingsApi]:
    with EmbeddingsApi() as api:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-5ecret5ecret")
        yield api


@pytest.fixture
def make(api: EmbeddingsApi, own_database: str) -> Iterator[Callable[..., Any]]:
    agents = []

    def make(dimensions: int = DIMENSIONS, **more: Any) -> Any:
        embeddings = {"embedding_model": "openai:m", "embedding_dimensions": dimensions}
        given: Any = {"database_url": own_database} | embeddings | more
        settings = Settings(**given)
        agents.append(LangGraphResponsesAgent(build_graph(OfflineModel(), []), settings))
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()


def in_store(agent: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    async def run() -> Any:
        return await getattr(agent.memory_of("ann"), method)(*args, **kwargs)

    return agent.loop.run(run())


def remember(agent: Any, **texts: str) -> None:
    for key, text in texts.items():
        in_store(agent, "aput", ("n",), key, {"text": text}, index=["text"])


def test_the_nearest_comes_first(make: Callable[..., Any]) -> None:
    agent = make()
    remember(agent, a="Ann likes tea", b="Ann took a train", c="Ann cannot eat bread")
    for query, nearest in (("something to drink", "a"), ("how does she travel?", "b"), ("cake", "c")):
        found = in_store(agent, "asearch", ("n",), query=query, limit=2)
        assert (len(found), found[0].key) == (2, nearest)
        assert found[0].score > found[1].score


def test_what_is_changed_or_deleted_is_found_so(make: Callable[..., Any], own_database: str) -> None:
    agent = make()
    remember(agent, a="Ann likes tea", b="Ann took a train")
    remember(agent, a="Ann likes cake")
    assert in_store(agent, "asearch", ("n",), query="eat")[0].key == "a"
    in_store(agent, "adelete", ("n",), "a")
    assert [item.key for item in in_store(agent, "asearch", ("n",), query="eat")] == ["b"]
    agent.as_user("ann").delete_memories()
    with psycopg.connect(own_database) as connection:
        assert value(connection, "SELECT count(*) FROM store_vectors") == 0


def test_whole_values_and_none(make: Callable[..., Any], api: EmbeddingsApi) -> None:
    agent = make()
    in_store(agent, "aput", ("n",), "whole", {"likes": "tea"})
    in_store(agent, "aput", ("n",), "none", {"likes": "coffee"}, index=False)
    assert api.texts == ['{"likes": "tea"}']
    assert [item.key for item in in_store(agent, "asearch", ("n",), query="drink")] == ["whole"]


def test_long_vectors(make: Callable[..., Any], own_database: str) -> None:
    make(dimensions=3072).open()
    with psycopg.connect(own_database) as connection:
        query = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'embedding'"
        assert value(connection, query) == "halfvec(3072)"


def test_a_model_that_fails_is_told_without_secrets(make: Callable[..., Any], api: EmbeddingsApi) -> None:
    agent, api.status = make(), 401
    with pytest.raises(ModelFailed) as caught:
        remember(agent, a="Ann likes tea")
    assert "5ecret" not in caught.value.message
    api.status = 200
    assert in_store(agent, "asearch", ("n",)) == []


def test_no_connection_is_held_while_the_model_answers(make: Callable[..., Any], api: EmbeddingsApi) -> None:
    agent = make(database_pool_size=1, database_timeout=2)
    agent.open()
    api.open.clear()
    waiting = threading.Thread(target=remember, args=(agent,), kwargs={"a": "Ann likes tea"})
    waiting.start()
    eventually(lambda: api.texts)
    assert agent.list_threads() == []
    api.open.set()
    waiting.join()
    assert in_store(agent, "aget", ("n",), "a").value == {"text": "Ann likes tea"}


@pytest.mark.parametrize(
    "settings",
    [
        {"embedding_model": "openai:m"},
        {"embedding_dimensions": 3},
        {"embedding_model": "openai:m", "embedding_dimensions": 3, "langgraph_aes_key": "0" * 16},
        {"embedding_model": "openai:m", "embedding_dimensions": 5000},
    ],
    ids=str,
)
def test_settings_that_do_not_go_together(settings: Any) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)


@pytest.mark.parametrize(
    ("name", "reason"), [("nobody:m", "nobody"), ("google_genai:m", r"pip install 'stateful-agent\[google\]'")]
)
def test_a_model_that_there_is_not(name: str, reason: str) -> None:
    with pytest.raises(Misconfigured, match=reason):
        embedding_model(name)
