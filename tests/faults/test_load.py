"""Many callers at once of a model that is slow."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import free_port, serving, with_agent


@pytest.fixture(scope="module")
def slow_url(logged_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served agent whose model talks for 3 s."""
    port, folder = free_port(), tmp_path_factory.mktemp("slow")
    with serving(with_agent(logged_model, Path(__file__).with_name("slow_agent.py"), folder), folder, port):
        yield f"http://127.0.0.1:{port}"


def test_a_slow_turn_blocks_nobody(slow_url: str) -> None:
    async def scenario() -> float:
        async with httpx.AsyncClient(base_url=slow_url, timeout=30) as client:
            turn = asyncio.create_task(client.post("/responses", json={"input": "count"}))
            await asyncio.sleep(0.5)
            started = time.monotonic()
            await client.get("/health")
            waited = time.monotonic() - started
            assert not turn.done()
            assert (await turn).status_code == 200
            return waited

    assert asyncio.run(scenario()) < 2


def test_200_streams_at_once(slow_url: str) -> None:
    async def stream(client: httpx.AsyncClient, started: float) -> tuple[float, float]:
        first = 0.0
        async with client.stream("POST", "/responses", json={"input": "count", "stream": True}) as answer:
            async for line in answer.aiter_lines():
                first = first or ("output_text.delta" in line and time.monotonic() - started) or 0.0
                if line.startswith("data: {"):
                    last = json.loads(line[6:])
        assert last["type"] == "response.completed"
        return first, time.monotonic() - started

    async def scenario() -> list[tuple[float, float]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=slow_url, timeout=60, limits=limits) as client:
            started = time.monotonic()
            return await asyncio.gather(*(stream(client, started) for _ in range(200)))

    times = asyncio.run(scenario())
    print("first delta", max(first for first, _ in times), "complete", max(done for _, done in times))
    # One after the other they would take ten minutes: a server that serialises fails this.
    # How fast it is, `make bench` says.
    assert max(first for first, _ in times) < 15
    assert max(done for _, done in times) < 30
