"""The turns of every serving process are traced, from the first start on."""

import multiprocessing
from pathlib import Path

import mlflow
import pytest
from traced_process import trace_a_turn


def test_processes_that_start_at_once_on_a_new_store_all_trace(tmp_path: Path) -> None:
    uri, spawn = f"sqlite:///{tmp_path}/new.db", multiprocessing.get_context("spawn")
    setting_up = spawn.Lock()
    processes = [spawn.Process(target=trace_a_turn, args=(uri, setting_up)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    store = mlflow.MlflowClient(uri)
    assert len(store.search_traces(locations=[found.experiment_id for found in store.search_experiments()])) == 3


def test_where_no_turn_is_traced_no_store_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACE_SAMPLING_RATIO", "0")
    spawn = multiprocessing.get_context("spawn")
    setting_up = spawn.Lock()  # which is gone when nothing holds it here
    process = spawn.Process(target=trace_a_turn, args=(f"sqlite:///{tmp_path}/new.db", setting_up))
    process.start()
    process.join(90)
    assert process.exitcode == 0
    assert not (tmp_path / "new.db").exists()
