"""What workers hand over to the process that stores their traces, and what of it is dropped."""

import multiprocessing
import pickle
import time
from multiprocessing import Pipe
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
from mlflow.entities import TraceInfo, TraceLocation, TraceState

from stateful_agent.metrics import TRACES_DROPPED
from stateful_agent.server import trace_writer
from stateful_agent.server.mlflow_internals import FinishedTrace
from stateful_agent.server.trace_writer import Backlog, Delivery, TraceWriter, Worker, WriterAddress
from stateful_agent.server.tracing import BATCH_SECONDS, Handover


def finished_trace(trace_id: str) -> FinishedTrace:
    return TraceInfo(trace_id, TraceLocation.from_experiment_id("0"), 1, TraceState.OK), []


def ids_in(delivery: tuple[int, str, list[bytes]]) -> list[str]:
    return [pickle.loads(trace)[0].trace_id for trace in delivery[2]]


def test_what_two_writers_did_not_live_to_store_is_dropped(tmp_path: Path) -> None:
    address = WriterAddress(str(tmp_path / "traces"), b"key")
    dropped = TRACES_DROPPED.labels("worker")._value
    before = dropped.get()
    with Listener(address.path, "AF_UNIX", authkey=address.key) as listener:
        handover = Handover(address, "uri")
        handover.put(finished_trace("tr-1"))
        for _ in range(2):
            with listener.accept() as connection:
                assert ids_in(connection.recv()) == ["tr-1"]
        with listener.accept() as connection:
            handover.put(finished_trace("tr-2"))
            assert ids_in(connection.recv()) == ["tr-2"]
        handover.close()
    assert dropped.get() == before + 1


def test_what_is_stored_is_not_sent_again(tmp_path: Path) -> None:
    address = WriterAddress(str(tmp_path / "traces"), b"key")
    with Listener(address.path, "AF_UNIX", authkey=address.key) as listener:
        handover = Handover(address, "uri")
        handover.put(finished_trace("tr-1"))
        with listener.accept() as connection:
            number, _, _ = connection.recv()
            connection.send(number)
            time.sleep(3 * BATCH_SECONDS)  # it is read
        handover.put(finished_trace("tr-2"))
        with listener.accept() as connection:
            assert ids_in(connection.recv()) == ["tr-2"]
        handover.close()


def test_what_does_not_fit_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "MOST_BYTES", 250)
    backlog = Backlog()
    here, there = Pipe()
    first, second, third = (Delivery(Worker(here), n, "uri", [b"a" * 50, b"b" * 50]) for n in range(3))
    assert [backlog.put(each) for each in (first, second, third)] == [True, True, False]
    assert backlog.take() == [first, second]
    assert backlog.put(third)
    backlog.close()
    assert backlog.take() == [third]
    assert backlog.take() == []
    here.close()
    there.close()


def test_one_that_does_not_end_in_time_is_killed_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "END_SECONDS", -1)
    writer = TraceWriter(WriterAddress(str(tmp_path / "traces"), b"key"), multiprocessing.get_context("spawn"))
    process = writer._start()
    writer.close()
    assert process not in multiprocessing.active_children()
