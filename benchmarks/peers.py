"""Other servers of LangGraph graphs, beside this project's: the same graph, the same Postgres, one process each.

Each is installed once into an environment of its own, below `.local/`.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from benchmarks import load, notebook
from benchmarks.bench import Bench
from benchmarks.postgres import DebianPostgres, Postgres
from benchmarks.report import Row, ratios
from benchmarks.served import with_tables
from benchmarks.serving import ROOT, Served, command_served, has_workers, other_served, served, settle

PEERS = {
    "Aegra": ["aegra-api==0.6.0", "greenlet"],  # which its SQLAlchemy needs, and it does not name
    "LangGraph's development server": ["langgraph-cli[inmem]==0.4.40"],
}
"""What is installed for each."""

CLIENTS = 16


def peers(bench: Bench) -> Iterator[Row]:
    """Turns per second, and the first token, here and by the others."""
    seconds, rounds = bench.seconds(3), bench.times(3)
    with ExitStack() as stack:
        postgres = Postgres(DebianPostgres())
        stack.callback(postgres.stop)
        settings = {"DATABASE_URL": postgres.database(), "MLFLOW_TRACKING_URI": bench.tracking}
        workers = 1 if has_workers() else 0
        here = served(bench.instant_model, bench.folder / "peers", environment=settings, workers=workers)
        servers: dict[str, tuple[Served, str]] = {"here": (stack.enter_context(here), "responses")}
        servers["Aegra"] = (stack.enter_context(_aegra(bench.folder / "aegra", postgres.database())), "runs")
        langgraph = stack.enter_context(_langgraph(bench.folder / "langgraph"))
        servers["LangGraph's development server"] = (langgraph, "runs")
        template = {"DATABASE_URL": with_tables(postgres.database()), "MLFLOW_TRACKING_URI": bench.tracking}
        there = other_served(notebook.__name__, bench.folder / "template", environment=template, workers=1)
        servers["Databricks' `AgentServer`"] = (stack.enter_context(there), "responses")

        rates: dict[str, list[float]] = {name: [] for name in servers}
        firsts: dict[str, list[float]] = {name: [] for name in servers}
        bench.report(f"{CLIENTS} clients for {seconds:.0f} s, then one, {rounds} times for each server, in turns")
        for n in range(rounds + 1):
            for name, (server, protocol) in servers.items():
                settle([each for each, _ in servers.values()])
                asked = ("--protocol", protocol, "--name", f"round {n}")
                many = load.run("turns", server.url, "--clients", CLIENTS, "--seconds", seconds if n else 1, *asked)
                settle([server])
                alone = load.run("first", server.url, "--turns", bench.times(20), *asked)
                if n:
                    rates[name].append(many["per_second"])
                    firsts[name].append(alone["median"])
    for name in servers:
        if name == "here":
            continue
        more, sooner = ratios(rates["here"], rates[name]), ratios(firsts["here"], firsts[name])
        ours, theirs = statistics.median(rates["here"]), statistics.median(rates[name])
        yield Row(
            f"turns/s of {CLIENTS} clients over HTTP, to {name}",
            f"{more}; {ours:.0f} to {theirs:.0f} turns/s",
            f"one worker each; {rounds} pairs of {seconds:.0f} s; tracing on here",
            "at least 3 times",
            more.median >= 3,
            {"ratio": more.median, "per_second": ours, "other_per_second": theirs},
        )
        ours, theirs = statistics.median(firsts["here"]) * 1000, statistics.median(firsts[name]) * 1000
        yield Row(
            f"first token of a turn alone, to {name}",
            f"{sooner}; {ours:.1f} to {theirs:.1f} ms",
            f"one worker each; {rounds} pairs of {bench.times(20)} turns; tracing on here",
            "at most half",
            sooner.median <= 0.5,
            {"ratio": sooner.median, "ms": ours, "other_ms": theirs},
        )


def _installed(name: str) -> Path:
    """The programs of a peer, which is installed if need be."""
    folder = ROOT / ".local" / "peers" / "".join(filter(str.isalnum, name))
    if not (folder / "ready").exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        python = folder / "bin" / "python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PEERS[name]], check=True)
        (folder / "ready").touch()
    return folder / "bin"


def _aegra(folder: Path, url: str) -> AbstractContextManager[Served]:
    folder.mkdir()
    graph = {"agent": f"{ROOT}/benchmarks/peer_graph.py:graph"}
    (folder / "aegra.json").write_text(json.dumps({"graphs": graph}))
    database = conninfo_to_dict(url)
    url = f"postgresql://{database['user']}@/{database['dbname']}?host={database['host']}"
    command = [str(_installed("Aegra") / "uvicorn"), "aegra_api.main:app", "--log-level", "warning"]
    settings = {"DATABASE_URL": url, "AUTH_TYPE": "noop", "LOG_LEVEL": "WARNING", "ENV_MODE": "PRODUCTION"}
    return command_served(command, folder, environment=settings, protocol="runs")


def _langgraph(folder: Path) -> AbstractContextManager[Served]:
    folder.mkdir()
    described = {"dependencies": ["."], "graphs": {"agent": f"{ROOT}/benchmarks/peer_graph.py:graph"}}
    (folder / "langgraph.json").write_text(json.dumps(described))
    programs = _installed("LangGraph's development server")
    command = [str(programs / "langgraph"), "dev", "--no-browser", "--no-reload", "--server-log-level", "ERROR"]
    command += ["--n-jobs-per-worker", str(CLIENTS)]
    settings = {"PATH": f"{programs}:{os.environ['PATH']}", "LANGSMITH_TRACING": "false", "LOG_LEVEL": "ERROR"}
    return command_served(command, folder, environment=settings, protocol="runs")
