"""Measure what this project costs, beside the notebooks' design and LangGraph itself, in one run."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import filled, peers, served, turns, wire
from benchmarks.bench import Bench
from benchmarks.instant import ANSWER, QUESTION, TOKENS
from benchmarks.report import Row, machine, write

MEASUREMENTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "early": turns.early,
    "lengths": turns.lengths,
    "filled": filled.filled,
    "counts": wire.counts,
    "delay": wire.delay,
    "streams": served.streams,
    "throughput": served.throughput,
    "startup": served.startup,
    "memory": served.memory,
    "tracing": served.tracing,
    "peers": peers.peers,
}
NOTES = [
    "All designs run a graph of the same shape on a model that answers at once: a question of "
    f"{len(QUESTION)} B, an answer of {len(ANSWER)} B in {TOKENS} tokens. Postgres runs beside them, as it comes, on "
    "the same cores.",
    "In memory: LangGraph with `InMemorySaver`, over HTTP behind Starlette, [in_memory.py](in_memory.py); shared "
    "PostgresSaver: with one `PostgresSaver(pool)`; the published notebooks' design: [notebook.py](notebook.py).",
    "Peers: Aegra 0.6.0 and LangGraph's development server, which keeps its state in memory, run the same graph, "
    "[peer_graph.py](peer_graph.py), and are asked by their own protocol (a run on a thread, waited for); Databricks' "
    "`AgentServer` runs the published notebooks' design, one turn at a time, as its template does.",
    "Where two things are compared they take turns in the same run: the ratio is the median of the pairs' ratios, with "
    "its quartiles in brackets.",
    "tracing on: each turn is a trace, sent to a server that takes and forgets it, [tracking.py](tracking.py): "
    "in production another machine stores it. SQLite, where `make serve` stores traces, is a row of its own.",
]


def measure(names: Sequence[str], *, quick: bool = False) -> tuple[list[Row], list[str]]:
    """Measure. Returns the rows, and what there is to know about them."""
    began, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), quick=quick)
        try:
            for name in names:
                bench.report(name)
                for row in MEASUREMENTS[name](bench):
                    bench.report(
                        f"{row.what}: {row.measured}" + ("" if row.met is None else f"  [{row.goal}: {row.met}]")
                    )
                    rows.append(row)
        finally:
            bench.close()
    notes = [*NOTES, f"The run took {(time.monotonic() - began) / 60:.0f} minutes."]
    if quick:
        notes.insert(0, "A quick run: it says that the measurements work, and nothing about what they measure.")
    return rows, notes


def main() -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    about = f"measure only these: {', '.join(MEASUREMENTS)}"
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), metavar="NAME", help=about
    )
    parser.add_argument("--quick", action="store_true", help="try each a few times only, to see that it works")
    about = "where to write results.md and results.json (default: %(default)s)"
    parser.add_argument("--into", type=Path, default=Path(".local/bench"), metavar="FOLDER", help=about)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no server behind
    rows, notes = measure(args.only, quick=args.quick)
    print("\n" + write(rows, machine(), notes, args.into))


if __name__ == "__main__":
    main()
