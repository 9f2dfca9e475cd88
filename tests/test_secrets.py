"""What is secret is in no table, log, trace or message. (Nor in a logged model: `processes/test_log_and_deploy.py`.)"""

import logging
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import langchain_tavily._utilities
import mlflow
import psycopg
import pytest
from conftest import say
from databases import dump
from scripted import Scripted

from agent import graph as default_graph
from stateful_agent.errors import AgentError
from stateful_agent.graph.build import build_graph
from stateful_agent.settings import Settings

Make = Callable[..., Any]

SECRETS = {
    "TAVILY_API_KEY": "tvly-5ecret-of-the-search",
    "DATABRICKS_TOKEN": "dapi-5ecret-of-the-platform",
    "LANGGRAPH_AES_KEY": "5ecret-of-the-tables-16-24-or-32",
}
PASSWORD = "5ecret-of-the-database"
WORD = "heliotrope"


@pytest.fixture
def settings(database: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An environment full of secrets. The web cannot be searched from here."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setattr(langchain_tavily._utilities, "TAVILY_API_URL", "http://127.0.0.1:9")
    return {"database_url": psycopg.conninfo.make_conninfo(database, password=PASSWORD)}


def files(folder: Path) -> Iterator[bytes]:
    return (file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("is_encrypted", [False, True])
def test_an_agents_life(
    make_agent: Make,
    settings: dict[str, Any],
    database: str,
    tracking: str,
    caplog: pytest.LogCaptureFixture,
    is_encrypted: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    if not is_encrypted:
        settings["langgraph_aes_key"] = None
    agent = make_agent(default_graph, **settings)
    shown: list[Any] = [say(agent, f"Weather in {WORD}?", thread_id="t")]
    ref = {name: shown[0]["custom_outputs"][name] for name in ("thread_id", "checkpoint_id")}
    shown.append(agent.update_checkpoint_state(**ref, new_messages=[{"role": "user", "content": WORD}]))
    shown.append(say(agent, "hello", **ref))
    failing = make_agent(build_graph(Scripted(failure=KeyError("no such thing")), []), **settings)
    elsewhere = "postgresql://me:{}@127.0.0.1:9/none"
    lost = make_agent(default_graph, database_url=elsewhere.format(PASSWORD), database_timeout=0.3)
    wrong = make_agent(default_graph, database_url=elsewhere.format("%x" + PASSWORD))  # no such escape
    for broken in (failing, lost, wrong):
        with pytest.raises(AgentError) as caught:
            say(broken, WORD, thread_id="t")
        shown.append(f"{caught.value} {caught.value!r} {caught.value.as_dict()}")
    shown += [agent.get_checkpoint_history("t", 100), agent.get_checkpoint_state("t"), agent.list_threads()]
    shown.append(f"{Settings()!r} {Settings().model_dump()} {vars(agent)} {agent.database.description}")
    mlflow.flush_trace_async_logging()
    traces = b"".join(files(Path(urllib.parse.urlparse(tracking).path).parent))

    tables, answers, logs = dump(database), str(shown).encode(), caplog.text.encode()
    for secret in (PASSWORD, *SECRETS.values()):
        for place_name, found in {"tables": tables, "answers": answers, "logs": logs, "traces": traces}.items():
            assert secret.encode() not in found, (secret, place_name)
    # So the search finds what is there.
    assert (WORD.encode() in tables) is not is_encrypted
    assert WORD.encode() in answers
    assert WORD.encode() in traces
    assert b"no such thing" in logs
