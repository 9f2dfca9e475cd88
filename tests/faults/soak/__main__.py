"""Twenty clients talk on forty threads with two servers that are killed or held up, and a database that is stopped.

    PYTHONPATH=.:tests:tests/faults python -m soak [--minutes N] [--seed N]

In the end it counts: all that was acknowledged must be found. See `verdict.py` for what is claimed.
"""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from cluster import Cluster
from conftest import ROOT
from served import Server

from soak.clients import Clients
from soak.notes import Attempt, Tree
from soak.verdict import branchings, losses

CLIENTS, THREADS = 20, 40
FAULTS = (
    "server killed",
    "database stopped",
    "database crashed",
    "server killed while the database was stopped",
    "server paused",
    "server cut off from the database",
)
HELD_UP = (7.0, 9.0)
"""Seconds: a server has lost its threads to whoever asks when it comes back."""
LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=2)  # the server closes idle ones after 5 s


async def break_things(
    cluster: Cluster, servers: Sequence[Server], chance: random.Random, until: float
) -> Counter[str]:
    """One fault after the other, each healed before the next. Returns how many of which."""
    faults: Counter[str] = Counter()
    while monotonic() < until:
        await asyncio.sleep(chance.uniform(1, 4))
        fault, server = chance.choice(FAULTS), chance.choice(servers)
        faults[fault] += 1
        print(f"{until - monotonic():4.0f} s left: {fault}", flush=True)
        if fault in ("server paused", "server cut off from the database"):
            with server.paused() if "paused" in fault else cluster.hanging(server.name):
                await asyncio.sleep(chance.uniform(*HELD_UP))
            continue
        if "database" in fault:
            await asyncio.to_thread(cluster.crash if "crashed" in fault else cluster.stop)
            await asyncio.sleep(chance.uniform(1, 2))
        if "killed" in fault:
            server.kill()
        if "database" in fault:
            await asyncio.to_thread(cluster.start)
        if "killed" in fault:
            await asyncio.to_thread(server.start)
    return faults


async def look(clients: Clients, thread_id: str, attempts: Sequence[Attempt]) -> Tree:
    """What is found of a thread."""
    parents: dict[str, str | None] = {}
    page: list[dict[str, Any]] = []
    while not parents or len(page) == 1000:
        before = page[-1]["checkpoint_id"] if page else None
        page = await clients.travel("get_checkpoint_history", thread_id=thread_id, limit=1000, before=before)
        parents |= {entry["checkpoint_id"]: entry["parent_checkpoint_id"] for entry in page}
    tips = [tip["checkpoint_id"] for tip in await clients.travel("list_branches", thread_id=thread_id)]
    branched = {child for children in branchings(parents).values() for child in children}
    acknowledged = {attempt.checkpoint_id for attempt in attempts if attempt.acknowledged}
    items = {}
    for checkpoint_id in {*tips, *branched, *acknowledged} & parents.keys():
        state = await clients.travel("get_checkpoint_state", thread_id=thread_id, checkpoint_id=checkpoint_id)
        items[checkpoint_id] = state["messages"] + state["pending_messages"]
    return Tree(parents, tips, items)


async def soak(cluster: Cluster, servers: Sequence[Server], seconds: float, seed: int) -> bool:
    """Let clients talk for so long, and count. Returns whether all is well."""
    threads = [f"thread-{n}" for n in range(THREADS)]
    started = monotonic()
    until = started + seconds
    async with httpx.AsyncClient(timeout=60, limits=LIMITS) as http:
        clients = Clients(servers, http, random.Random(seed))
        breaking = asyncio.create_task(break_things(cluster, servers, random.Random(seed), until))
        await asyncio.gather(*(clients.talk(threads, until) for _ in range(CLIENTS)))
        faults = await breaking
        await asyncio.sleep(5)  # for turns whose clients have hung up
        asked = [[a for a in clients.attempts if a.thread_id == thread_id] for thread_id in threads]
        found = await asyncio.gather(*map(look, [clients] * THREADS, threads, asked))
    trees = dict(zip(threads, found, strict=True))
    acknowledged = [attempt for attempt in clients.attempts if attempt.acknowledged]
    there = [a for a in acknowledged if a.checkpoint_id in trees[a.thread_id].parents]
    bad = losses(clients.attempts, trees) + [f"unexpected: {answer}" for answer in clients.unexpected]

    turns = [attempt for attempt in acknowledged if attempt.answer is not None]
    print(f"acknowledged  {len(acknowledged)}: {len(turns)} turns, {len(acknowledged) - len(turns)} edits")
    print(f"found         {len(there)} of {len(acknowledged)}")
    print(f"not at head   {sum(attempt.named is not None for attempt in acknowledged)} of them")
    print(f"no reply      {len(clients.attempts) - len(acknowledged)}")
    for what, times in clients.met.most_common():
        print(f"              {times:4} {what}")
    print(f"checkpoints   {sum(len(tree.parents) for tree in found)}, {sum(len(t.tips) for t in found)} branches")
    print("faults        " + ", ".join(f"{times} {fault}" for fault, times in faults.items()))
    print(f"seconds       {monotonic() - started:.0f}")
    print(f"losses        {len(bad)}", *bad[:50], sep="\n  ")
    return not bad


def log_model(folder: Path) -> str:
    """Log the agent with the strict model. Returns the logged model's folder."""
    agent = ROOT / "tests" / "faults" / "strict_agent.py"
    command = [sys.executable, str(ROOT / "log_and_deploy.py"), "log", "--agent", str(agent)]
    subprocess.run([*command, "--path-file", "model.path"], cwd=folder, check=True)
    return (folder / "model.path").read_text()


def main() -> None:
    """Set up two servers on one database, soak them, and exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="how long clients talk (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what chance depends on")
    args = parser.parse_args()
    print(f"seed          {args.seed}", flush=True)

    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o755)  # for the user that the database runs as
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    model = log_model(folder)
    cluster = Cluster(folder / "postgres")
    servers = [Server(model, folder / name, DATABASE_URL=cluster.url_for(name)) for name in ("one", "two")]
    try:
        with ThreadPoolExecutor() as starting:
            list(starting.map(Server.start, servers))
        well = asyncio.run(soak(cluster, servers, args.minutes * 60, args.seed))
    finally:
        for server in servers:
            server.stop()
        cluster.stop()
    if not well:
        sys.exit(f"See {folder} for the servers' logs and the database.")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
