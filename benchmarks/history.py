"""What a page of history costs as a thread grows: this project's, and the loop that notebooks copy.

The other side is the reference notebook's `get_checkpoint_history`: a connection and a compiled graph per call, and a
loop over `get_state_history` that stops at the limit in Python. Both read the same threads, in turns, in one run.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from agent import LangGraphResponsesAgent
from stateful_agent.graph import build_graph
from stateful_agent.settings import Settings
from stateful_agent.storage import EmbeddedPostgres

SIZES = (10, 100, 1000)
LIMIT = 20
QUESTION, ANSWER = "q" * 200, "a" * 800
RESULTS = Path(".local/bench/history.json")


class Instant(BaseChatModel):
    """A model that takes no time."""

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(ANSWER))])


def notebook_history(pool: ConnectionPool[Any], thread_id: str, limit: int) -> list[dict[str, Any]]:
    """The reference notebook's `get_checkpoint_history`."""
    with pool.connection() as connection:
        graph = build_graph(Instant(), []).compile(checkpointer=PostgresSaver(connection))
        history: list[dict[str, Any]] = []
        for state in graph.get_state_history({"configurable": {"thread_id": thread_id}}):
            if len(history) >= limit:
                break
            messages = state.values.get("messages", [])
            history.append(
                {
                    "checkpoint_id": state.config["configurable"]["checkpoint_id"],
                    "message_count": len(messages),
                    "last_message": messages[-1].content[:100] if messages else None,
                }
            )
    return history


def seconds(work: Callable[[], Any], times: int) -> float:
    """The median of so many calls."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Build the threads, measure both sides, print a table, and write it as JSON."""
    os.environ["MLFLOW_TRACE_SAMPLING_RATIO"] = "0"  # the threads are built without traces; reading makes none
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        url = server.start()
        agent = LangGraphResponsesAgent(build_graph(Instant(), []), Settings(database_url=SecretStr(url)))
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        try:
            with ConnectionPool(url, kwargs=settings, min_size=1) as pool:
                rows = [measure(agent, pool, size) for size in SIZES]
        finally:
            agent.close()
            server.stop()
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "limit": LIMIT, "rows": rows}, indent=2) + "\n")
    print(f"\nA page of {LIMIT} checkpoints; {machine}\n")
    print("| turns | here | to the shortest | notebook | notebook to here |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        ratio, growth = row["notebook"] / row["here"], row["here"] / rows[0]["here"]
        print(f"| {row['turns']} | {row['here']:.2f} ms | {growth:.2f} | {row['notebook']:.0f} ms | {ratio:.0f} |")


def measure(agent: LangGraphResponsesAgent, pool: ConnectionPool[Any], turns: int) -> dict[str, float]:
    """Milliseconds of both sides on a thread of so many turns."""
    thread_id = f"{turns} turns"
    for n in range(turns):
        if n % 100 == 0:
            print(f"  {thread_id}: {n} taken", flush=True)
        place = {"thread_id": thread_id}
        agent.predict({"input": [{"role": "user", "content": f"{n} {QUESTION}"}], "custom_inputs": place})
    ours, theirs = agent.get_checkpoint_history(thread_id, LIMIT), notebook_history(pool, thread_id, LIMIT)
    assert [{key: entry[key] for key in theirs[0]} for entry in ours] == theirs
    here = seconds(lambda: agent.get_checkpoint_history(thread_id, LIMIT), 200)
    there = seconds(lambda: notebook_history(pool, thread_id, LIMIT), 3 if turns <= 100 else 1)
    return {"turns": turns, "here": here * 1000, "notebook": there * 1000}


if __name__ == "__main__":
    main()
