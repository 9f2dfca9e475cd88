"""Another key: what is stored is read with the old one, and encrypted anew while turns go on."""

from typing import Any

import psycopg
import pytest
from conftest import eventually, say, text_of
from fastapi.testclient import TestClient
from pydantic import SecretStr

from stateful_agent import errors
from stateful_agent.deploy import Failure, encrypt_anew
from stateful_agent.server.app import create_app

OLD, NEW = "old-key-of-16-by", "new-key-of-24-bytes-long"


@pytest.fixture
def rotate(database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command with a key, and others to read with. Returns what it has told."""

    def rotate(key: str, *others: str) -> str:
        monkeypatch.setenv("DATABASE_URL", database)
        monkeypatch.setenv("LANGGRAPH_AES_KEY", key)
        monkeypatch.setenv("DECRYPTION_KEYS", ",".join(others))
        return encrypt_anew(lambda words: None)

    return rotate


def keys(key: str, *others: str) -> dict[str, Any]:
    return {"langgraph_aes_key": SecretStr(key), "decryption_keys": tuple(map(SecretStr, others))}


async def remember(agent: Any) -> None:
    await agent.memory_of("ann").aput(("n",), "k", {"is": "kept"})


def everything(agent: Any) -> Any:
    """All that a thread holds, and what is remembered."""
    history = agent.get_checkpoint_history("t", 100)
    states = [agent.get_checkpoint_state("t", entry["checkpoint_id"]) for entry in history]
    return history, states, agent.get_thread("t"), agent.list_memories()


@pytest.mark.parametrize("before", [OLD, None])
def test_all_is_read_with_the_new_key_alone(make_agent: Any, rotate: Any, before: str | None) -> None:
    old = make_agent(**(keys(before) if before else {}))
    first = say(old, "I'm headed to SF!", thread_id="t")["custom_outputs"]
    say(old, "Weather in SF?", **first)
    old.update_thread("t", {"noted": "this"})
    old.loop.run(remember(old))
    held = everything(old)
    assert "rows were encrypted anew, and 1 of what is remembered" in rotate(NEW, *([before] if before else []))
    new = make_agent(**keys(NEW), encryption_required=True)
    assert everything(new) == held
    assert "SF" in text_of(say(new, "Where am I going?", thread_id="t"))
    if before:
        with pytest.raises(errors.Unreadable, match="DECRYPTION_KEYS"):
            make_agent(**keys(before)).get_checkpoint_state("t", first["checkpoint_id"])


def test_a_second_run_finds_nothing_to_do(make_agent: Any, rotate: Any, database: str) -> None:
    agent = make_agent(**keys(OLD))
    say(agent, "I'm headed to SF!", thread_id="t")
    agent.update_thread("t", {"noted": "this"})
    agent.loop.run(remember(agent))
    rotate(NEW, OLD)
    before = stored(database)
    assert rotate(NEW, OLD).startswith("Of 1 threads, 0 rows were encrypted anew, and 0 of")
    assert stored(database) == before


def test_what_a_response_has_told(make_agent: Any, rotate: Any) -> None:
    def told(agent: Any, response_id: str) -> str:
        with TestClient(create_app(agent)) as client:
            return client.get(f"/responses/{response_id}", params={"stream": "true"}).text

    old = make_agent(**keys(OLD))
    with TestClient(create_app(old)) as client:
        response_id = client.post("/responses", json={"input": "hi", "background": True}).json()["id"]
        eventually(lambda: client.get(f"/responses/{response_id}").json()["status"] == "completed")
    before = told(make_agent(**keys(OLD)), response_id)
    assert "response.completed" in before
    rotate(NEW, OLD)
    assert told(make_agent(**keys(NEW)), response_id) == before


def test_turns_of_both_keys_go_on_meanwhile(make_agent: Any, rotate: Any) -> None:
    """Processes that write with the old key know the new one already."""
    old, new = make_agent(**keys(OLD, NEW)), make_agent(**keys(NEW, OLD))
    say(old, "I'm headed to SF!", thread_id="t")
    rotate(NEW, OLD)
    assert "SF" in text_of(say(old, "Where am I going?", thread_id="t"))
    assert "SF" in text_of(say(new, "Where am I going?", thread_id="t"))
    assert "0 rows" not in rotate(NEW, OLD)
    assert "SF" in text_of(say(make_agent(**keys(NEW)), "Where am I going?", thread_id="t"))


def test_an_unknown_key_changes_nothing(make_agent: Any, rotate: Any, database: str) -> None:
    say(make_agent(**keys(OLD)), "I'm headed to SF!", thread_id="t")
    before = stored(database)
    with pytest.raises(Failure, match="Not all is encrypted anew: What thread 't' stores cannot be decrypted"):
        rotate(NEW)
    assert stored(database) == before


def test_what_was_changed_is_not_made_good(make_agent: Any, rotate: Any, database: str) -> None:
    say(make_agent(**keys(OLD)), "I'm headed to SF!", thread_id="t")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE agent_messages SET blob = set_byte(blob, 20, get_byte(blob, 20) # 1)")
    with pytest.raises(Failure, match="cannot be decrypted"):
        rotate(NEW, OLD)


def test_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match="Set LANGGRAPH_AES_KEY"):
        encrypt_anew(lambda words: None)


@pytest.mark.parametrize("settings", [{"decryption_keys": (SecretStr(OLD),)}, keys(NEW, "short")])
def test_keys_that_cannot_be(make_agent: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(errors.Misconfigured, match="DECRYPTION_KEYS"):
        make_agent(**settings).open()


def stored(database: str) -> Any:
    """The rows that hold values, as they are."""
    tables = ("checkpoint_blobs", "checkpoint_writes", "checkpoints", "agent_messages", "store")
    with psycopg.connect(database) as connection:
        rows = [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3".encode()).fetchall() for table in tables]
        return rows, connection.execute("SELECT thread_id, metadata_type, metadata FROM agent_threads").fetchall()
