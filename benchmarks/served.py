"""What the server does under load, over HTTP, as `make serve` runs it: with traces."""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import in_memory, load, notebook
from benchmarks.bench import Bench
from benchmarks.designs import Notebook
from benchmarks.report import Row, ratios, spread
from benchmarks.serving import Served, has_workers, other_served, served, settle

WORKERS = 2
CONNECTIONS = 10
IMPORTS = "import mlflow, langgraph.graph"


def streams(bench: Bench) -> Iterator[Row]:
    """Many slow streams at once."""
    workers, words = _workers()
    settings = {"ANSWER_SECONDS": "3", "DATABASE_POOL_SIZE": str(CONNECTIONS // workers)}
    with ExitStack() as stack:
        here = stack.enter_context(_here(bench, "streams", workers=workers, environment=settings))
        there = stack.enter_context(
            other_served(in_memory.__name__, bench.folder / "in_memory", environment=settings, workers=WORKERS)
        )
        for all_of_them, times, within in ((200, bench.times(3), 5), (500, 1, 6)):
            count = bench.times(all_of_them)
            bench.report(f"{count} streams of 3 s at once, here and in memory, {times} times")
            seen, least = (_streams(server, count, times) for server in (here, there))
            yield Row(
                f"{count} simultaneous streams of 3 s, {CONNECTIONS} connections",
                _in_words(seen),
                f"{words}; the worst of {times}; the clients take their share of the cores; tracing on",
                f"all complete in under {within} s, first delta of each under 1 s",
                seen["completed"] == count and seen["total"] < within and seen["first_max"] < 1,
                seen,
            )
            yield Row(
                "the same for LangGraph in memory",
                _in_words(least),
                "two workers; no database, no traces",
                figures=least,
            )


def _streams(server: Served, count: int, times: int) -> dict[str, float]:
    """The worst of so many bursts."""
    load.run("streams", server.url, "--count", count // 10, "--name", "warm")
    bursts: list[dict[str, float]] = []
    for n in range(times):
        settle([server])
        bursts.append(load.run("streams", server.url, "--count", count, "--name", f"{count} at once {n}"))
    worst = {name: max(burst[name] for burst in bursts) for name in bursts[0]}
    return worst | {"completed": min(burst["completed"] for burst in bursts)}


def _in_words(seen: dict[str, float]) -> str:
    return (
        f"{seen['completed']} complete in {seen['total']:.1f} s; first delta in the median after "
        f"{seen['first_median']:.2f} s, at most {seen['first_max']:.2f}"
    )


def throughput(bench: Bench) -> Iterator[Row]:
    """Turns per second, here and by the notebooks' design behind MLflow's own server."""
    workers, words = _workers()
    seconds = bench.seconds(3)
    with ExitStack() as stack:
        here = stack.enter_context(_here(bench, "throughput", workers=workers))
        settings = {"DATABASE_URL": with_tables(bench.database()), "MLFLOW_TRACKING_URI": bench.tracking}
        there, least = (
            stack.enter_context(
                other_served(design.__name__, bench.folder / design.__name__, environment=settings, workers=WORKERS)
            )
            for design in (notebook, in_memory)
        )
        rates: dict[Served, list[float]] = {here: [], there: [], least: []}
        bench.report(f"32 clients for {seconds:.0f} s, three times for each design, in turns")
        for n in range(4):
            for server in rates:
                settle(list(rates))
                for_so_long = ("--seconds", seconds if n else 1, "--name", f"round {n}")
                rates[server].append(load.run("turns", server.url, *for_so_long)["per_second"])
    ours, theirs, in_memory_times = rates[here][1:], rates[there][1:], rates[least][1:]
    times = ratios(ours, theirs)
    yield Row(
        "turns/s of 32 clients over HTTP, to the notebooks' design behind MLflow's `AgentServer` with two workers",
        f"{times}; {statistics.median(ours):.0f} to {statistics.median(theirs):.0f} turns/s",
        f"{words}; 3 pairs of {seconds:.0f} s, threads of ten turns; tracing on, for both",
        "at least 5 times",
        times.median >= 5,
        {
            "ratio": times.median,
            "per_second": statistics.median(ours),
            "notebook_per_second": statistics.median(theirs),
        },
    )
    times, per_second = ratios(in_memory_times, theirs), statistics.median(in_memory_times)
    yield Row(
        "the same for LangGraph in memory",
        f"{times}; {per_second:.0f} turns/s",
        "two workers; no database, no traces",
        figures={"ratio": times.median, "per_second": per_second},
    )


def startup(bench: Bench) -> Iterator[Row]:
    """From the start of the process to its first answer."""
    model, folder, times = bench.model, bench.folder / "startup", bench.times(2)
    settings = {"MLFLOW_TRACKING_URI": bench.store(), "AGENT_DATA_DIR": str(folder)}
    workers, words = _workers()
    bench.report(f"starting the server and importing what it stands on, {times} times, in turns")
    ours, imports = [], []
    for _ in range(times + 1):
        began = time.perf_counter()
        with served(model, folder, environment=settings, workers=workers):
            ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-c", IMPORTS], check=True)
        imports.append(time.perf_counter() - began)
    ours, imports = ours[1:], imports[1:]  # the first makes the database
    ratio, took = ratios(ours, imports), spread(ours)
    yield Row(
        f"process start to first answer over HTTP, to `{IMPORTS}`",
        f"{ratio}; {took.median:.1f} to {statistics.median(imports):.1f} s",
        f"{times} pairs after one; {words}; the built-in agent and its embedded Postgres, which starts too; traced",
        "at most 1.2 times",
        ratio.median <= 1.2,
        {"ratio": ratio.median, "seconds": took.median, "imports": statistics.median(imports)},
    )


def memory(bench: Bench) -> Iterator[Row]:
    """What the server holds, as turns go by."""
    step, most = bench.times(1000), bench.seconds(200)
    workers, words = _workers()
    with _here(bench, "memory", workers=workers) as server:
        held, began = [server.memory()], time.perf_counter()
        while len(held) <= 10 and time.perf_counter() - began < most:
            bench.report(f"memory after {step * (len(held) - 1)} turns: {held[-1]:.0f} MiB")
            first = step * (len(held) - 1)
            load.run("turns", server.url, "--turns", step, "--first", first, "--threads", step)
            held.append(server.memory())
        took = time.perf_counter() - began
    turns = step * (len(held) - 1)
    warm = held[min(3, len(held) - 2) :]
    slope = statistics.linear_regression(range(len(warm)), warm).slope
    enough = len(held) > 10
    yield Row(
        f"memory of the server during 10,000 turns on {step:,} threads",
        f"{held[0]:.0f} MiB at first, {warm[0]:.0f} after {turns - step * (len(warm) - 1):,} turns, "
        f"{held[-1]:.0f} after {turns:,}: {slope:+.1f} MiB for each {step:,}"
        + ("" if enough else f"; stopped there, after {took:.0f} s"),
        f"{words}; of all its processes, what they share once; flat: less than 5 % more at the end; tracing on",
        "flat",
        enough and held[-1] < 1.05 * warm[0],
        {"slope": slope, "turns": turns} | {f"after_{n * step}": each for n, each in enumerate(held)},
    )


def tracing(bench: Bench) -> Iterator[Row]:
    """What traces cost a turn: the same server without, with them, with every tenth, and with its store in SQLite."""
    settings: dict[str, dict[str, str]] = {
        "off": {"MLFLOW_TRACE_SAMPLING_RATIO": "0"},
        "on": {},
        "10 %": {"MLFLOW_TRACE_SAMPLING_RATIO": "0.1"},
        "in SQLite": {"MLFLOW_TRACKING_URI": bench.store()},
    }
    seconds, rounds = bench.seconds(1.2), bench.times(4)
    alone: dict[str, list[float]] = {name: [] for name in settings}
    saturated: dict[str, list[float]] = {name: [] for name in settings}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(_here(bench, f"traces {name}", environment=environment))
            for name, environment in settings.items()
        }
        bench.report(
            f"a turn without traces, with them, with every tenth, and in SQLite, {rounds} times each, in turns"
        )
        for n in range(rounds + 1):
            # There and back: whoever comes first may find the machine quicker, or slower.
            for name, server in list(servers.items())[:: 1 if n % 2 else -1]:
                settle(list(servers.values()))
                slow = ("--clients", 1, "--turns", bench.times(12), "--pause", 0.1, "--name", f"slow {n}")
                fast = ("--seconds", seconds if n else seconds / 4, "--name", f"fast {n}")
                latency = load.run("turns", server.url, *slow)["median"]
                settle([server])
                rate = load.run("turns", server.url, *fast)["per_second"]
                if n:
                    alone[name].append(latency)
                    saturated[name].append(1 / rate)
        if not bench.traces():
            raise RuntimeError("No trace has arrived at the tracking server.")
    for what, taken in (("alone", alone), ("on a server that has no time left", saturated)):
        for name, how in (("on", ""), ("10 %", ", 10 % sampled"), ("in SQLite", ", which it stores in SQLite itself")):
            slower = ratios(taken[name], taken["off"])
            off, on = statistics.median(taken["off"]) * 1000, statistics.median(taken[name]) * 1000
            yield Row(
                f"slowdown by traces of a turn {what}{how}",
                f"{_percent(slower.median)} ({_percent(slower.low)} to {_percent(slower.high)}); "
                f"{on:.1f} to {off:.1f} ms",
                f"{rounds} pairs, one worker; "
                + ("0.1 s between two turns" if taken is alone else "32 clients; milliseconds a turn, as turns/s say"),
                "at most 10 %" if name == "on" else "",
                slower.median <= 1.1 if name == "on" else None,
                {"ratio": slower.median, "ms": on, "off_ms": off},
            )


def _workers() -> tuple[int, str]:
    """How many processes this project's server is run with, and that in words."""
    return (WORKERS, "two workers") if has_workers() else (1, "one worker: the server has no others")


@contextlib.contextmanager
def _here(bench: Bench, name: str, *, workers: int = 1, environment: dict[str, str] | None = None) -> Iterator[Served]:
    """This project's server with an instant model, warm."""
    settings = {"DATABASE_URL": bench.database(), "MLFLOW_TRACKING_URI": bench.tracking} | (environment or {})
    with served(bench.instant_model, bench.folder / name, environment=settings, workers=workers) as server:
        yield server


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def with_tables(url: str) -> str:
    """The URL of a new database, now with the tables of the notebooks' design."""
    Notebook(url).close()
    return url
