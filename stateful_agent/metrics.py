"""What a process counts of its turns for Prometheus, and logs of each.

Where the environment variable PROMETHEUS_MULTIPROC_DIR names a folder before this is imported, the processes of a
server count together.
"""

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from stateful_agent.errors import AgentError
from stateful_agent.responses.types import Event

logger = logging.getLogger("stateful_agent.turns")

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

TURNS = Counter("agent_turns", "Turns that have ended, by how, and the code of the error.", ["status", "code"])
ERRORS = Counter("agent_http_errors", "Requests that were answered with an error, by its code.", ["code"])
RUNNING = Gauge("agent_turns_running", "Turns that are at work.", multiprocess_mode="livesum")
TURN_SECONDS = Histogram("agent_turn_seconds", "From a turn's request to its end.", buckets=SECONDS)
FIRST_TOKEN_SECONDS = Histogram(
    "agent_first_token_seconds", "From a turn's request to the first token of its answer.", buckets=SECONDS
)
LEASE_SECONDS = Histogram(
    "agent_lease_wait_seconds", "Until a turn has its thread, which others may be at work on.", buckets=SECONDS
)
TOKENS = Counter("agent_tokens", "Tokens, as providers count them.", ["direction"])
CONNECTIONS = Gauge("agent_pool_connections", "Connections to the database.", ["state"], multiprocess_mode="livesum")
WAITING = Gauge("agent_pool_requests_waiting", "Statements that wait for a connection.", multiprocess_mode="livesum")
TRACES_DROPPED = Counter("agent_traces_dropped", "Traces that could not be stored, by where.", ["where"])
for _where in ("worker", "writer"):
    TRACES_DROPPED.labels(_where)  # none, as long as none was dropped


async def measured(turn: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events of a turn, which is counted and logged."""
    began, has_token, status, code = time.perf_counter(), False, "cancelled", ""
    numbers: dict[str, Any] = {}
    with RUNNING.track_inprogress():
        try:
            async for event in turn:
                if not has_token and event["type"].endswith(".delta"):
                    has_token = True
                    numbers["first_token_seconds"] = round(time.perf_counter() - began, 4)
                    FIRST_TOKEN_SECONDS.observe(numbers["first_token_seconds"])
                elif event["type"] in ("response.completed", "response.incomplete"):
                    status = event["type"].removeprefix("response.")
                    if usage := event["response"].get("usage"):
                        for direction in ("input", "output"):
                            numbers[f"{direction}_tokens"] = usage[f"{direction}_tokens"]
                            TOKENS.labels(direction).inc(usage[f"{direction}_tokens"])
                yield event
        except Exception as error:
            status, code = "failed", error.code if isinstance(error, AgentError) else "internal_error"
            raise
        finally:
            seconds = time.perf_counter() - began
            TURNS.labels(status, code).inc()
            TURN_SECONDS.observe(seconds)
            numbers |= {"status": status, "code": code, "seconds": round(seconds, 4)}
            logger.info("turn %s", status, extra={"turn": {name: each for name, each in numbers.items() if each != ""}})
