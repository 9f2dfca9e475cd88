import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import ROOT

from benchmarks import in_memory, load
from benchmarks.postgres import bytes_held, bytes_on_disk
from benchmarks.proxy import Counts, Proxy
from benchmarks.report import Row, ratios, write
from benchmarks.serving import other_served

Connection = psycopg.Connection[Any]


def pipeline(connection: Connection) -> None:
    with connection.pipeline():
        for n in range(3):
            connection.execute("SELECT %s::int", [n])


class TestProxy:
    @pytest.mark.parametrize(
        ("ask", "statements", "round_trips"),
        [
            (lambda connection: None, 0, 0),
            (lambda connection: connection.execute("SELECT 1"), 1, 1),
            (lambda connection: connection.execute("SELECT %s::int", [1]), 1, 1),
            (lambda connection: connection.execute("SELECT %s", ["x" * 1_000_000]), 1, 1),
            (lambda connection: connection.execute("SELECT %s::int", [1], prepare=True), 1, 2),  # parsed, then run
        ],
        ids=["nothing", "simple", "extended", "long", "prepared"],
    )
    def test_counts_what_is_asked(
        self, postgres: str, ask: Callable[[Connection], Any], statements: int, round_trips: int
    ) -> None:
        with Proxy(postgres) as proxy, psycopg.connect(proxy.url, autocommit=True) as connection:
            ask(connection)
            assert proxy.counts() == Counts(statements, round_trips)

    def test_counts_what_goes_together_as_one_round_trip(self, postgres: str) -> None:
        # By the time of the first reply all of it has been sent.
        with Proxy(postgres, 0.2) as proxy, psycopg.connect(proxy.url, autocommit=True) as connection:
            pipeline(connection)
            assert proxy.counts() == Counts(3, 1)

    def test_counts_all_connections(self, postgres: str) -> None:
        with Proxy(postgres) as proxy:
            for _ in range(3):
                with psycopg.connect(proxy.url, autocommit=True) as connection:
                    connection.execute("SELECT 1")
            assert proxy.counts() == Counts(3, 3)

    def test_delays_a_round_trip_by_what_it_says(self, postgres: str) -> None:
        with Proxy(postgres, 1) as proxy, psycopg.connect(proxy.url, autocommit=True) as connection:
            began = time.monotonic()
            pipeline(connection)
            assert 1 <= time.monotonic() - began < 2.9  # three would take 3

    def test_keeps_the_order_of_what_it_delays(self, postgres: str) -> None:
        numbers = list(range(100_000))
        with Proxy(postgres, 0.01) as proxy, psycopg.connect(proxy.url) as connection:
            found = connection.execute("SELECT unnest(%s::int[])", [numbers]).fetchall()
        assert [number for (number,) in found] == numbers


def test_bytes_are_those_of_all_values_before_compression(own_database: str) -> None:
    with psycopg.connect(own_database, autocommit=True) as connection:
        before, on_disk = bytes_held(own_database), bytes_on_disk(own_database)
        connection.execute("CREATE TABLE things (a text, b bytea, c jsonb, d int)")
        connection.execute("INSERT INTO things VALUES (repeat('a', 100000), 'abc', '{}', 1), (NULL, '', '[]', NULL)")
    assert bytes_held(own_database) - before == 100_000 + 3 + 2 + 4 + 2
    assert 0 < bytes_on_disk(own_database) - on_disk < 100_000  # one letter repeated compresses


def test_a_ratio_is_that_of_the_pairs() -> None:
    assert ratios([1, 20, 300], [1, 10, 100]).median == 2


class TestLoad:
    def test_turns(self, url: str) -> None:
        seen = load.run("turns", url, "--clients", 2, "--turns", 4, "--name", "load")
        assert seen["turns"] == 4
        assert seen["per_second"] == pytest.approx(4 / seen["seconds"])

    def test_streams(self, url: str) -> None:
        seen = load.run("streams", url, "--count", 3, "--name", "load stream")
        assert seen["completed"] == 3
        assert 0 < seen["first_median"] <= seen["first_max"] <= seen["total"]

    def test_langgraph_in_memory_can_be_asked_the_same(self, tmp_path: Path) -> None:
        with other_served(in_memory.__name__, tmp_path, environment={}, workers=1) as server:
            assert load.run("turns", server.url, "--clients", 1, "--turns", 2)["turns"] == 2
            assert load.run("streams", server.url, "--count", 2)["completed"] == 2

    def test_a_refused_turn_is_no_turn(self, url: str) -> None:
        with pytest.raises(subprocess.CalledProcessError):
            load.run("turns", url, "--clients", 1, "--turns", 1, "--name", "x" * 300)


def test_a_table_for_people_and_for_programs(tmp_path: Path) -> None:
    rows = [Row("speed", "3 times", "alone", "at least 2", True, {"ratio": 3}), Row("size", "1 MB", "alone")]
    about = {"date": "today", "machine": "this", "python": "3", "versions": "mlflow 3"}
    lines = write(rows, about, ["a note"], tmp_path).splitlines()
    assert lines[-2:] == ["| speed | 3 times | at least 2 | yes | alone |", "| size | 1 MB |  |  | alone |"]
    assert (tmp_path / "results.md").read_text().splitlines() == lines
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["figures"] == {"ratio": 3}


def test_a_quick_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "counts", "filled", "--into", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    results = json.loads((tmp_path / "results.json").read_text())
    assert "quick run" in results["notes"][0]
    assert len(results["rows"]) == 6
    counted = results["rows"][0]["figures"]
    assert counted["notebook_statements"] == 11  # a known exchange
    assert counted["notebook_round_trips"] in (7, 8)  # whether two statements go together is a matter of moments
    assert 0 < counted["statements"] < 11
    for row in results["rows"]:
        assert row["measured"]
        assert row["how"]
        assert (row["met"] is None) == (not row["goal"])
        assert all(figure > 0 for figure in row["figures"].values())
