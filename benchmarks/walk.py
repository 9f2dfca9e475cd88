"""How far one streamed turn over HTTP walks through the code: which files of ours it enters, and how often.

python -m benchmarks.walk

A room is a file of ours; a move is a call into another one than the call before it was in. The turn is the second one
of its thread, answered by the built-in offline model, with the state in an embedded Postgres.
"""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from agent import graph
from stateful_agent import LangGraphResponsesAgent, Settings
from stateful_agent.server.app import create_app

ROOT = Path(__file__).parent.parent
OURS = (f"{ROOT}/stateful_agent/", f"{ROOT}/agent.py")
TURN = {"input": "Where am I going?", "custom_inputs": {"thread_id": "walk"}, "stream": True}


async def walk(folder: Path) -> tuple[list[str], int]:
    """Take the turn. Returns the rooms in the order of the moves, and after how many of them the model was asked."""
    app = create_app(LangGraphResponsesAgent(graph, Settings(agent_data_dir=folder)))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://walk")
    async with app.router.lifespan_context(app), client:
        await client.post("/responses", json=TURN | {"input": "I'm headed to SF!"})
        moves: list[str] = []
        asked: list[int] = []
        sys.setprofile(observer(moves, asked))
        try:
            await client.post("/responses", json=TURN)
        finally:
            sys.setprofile(None)
    return moves, asked[0]


def observer(moves: list[str], asked: list[int]) -> Callable[[FrameType, str, Any], None]:
    """What notes the moves, and after how many of them the model was asked."""

    def observe(frame: FrameType, event: str, _arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            room = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
            if not moves or moves[-1] != room:
                moves.append(room)
            if frame.f_code.co_name == "_astream":
                asked.append(len(moves))

    return observe


def main() -> None:
    """Take the turn, and print where it went."""
    with tempfile.TemporaryDirectory() as folder:
        moves, asked = asyncio.run(walk(Path(folder)))
    rooms = Counter(moves)
    for room, count in rooms.most_common():
        print(f"{count:5}  {room}")
    print(f"{len(rooms)} rooms, {len(moves)} moves, {asked} of them before the model was asked")


if __name__ == "__main__":
    main()
