"""A server's process from its start to its end. Whatever ends it, nothing is lost, nor left running."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from conftest import ROOT, eventually, free_port, serving, start_server, with_agent
from listening import Stream


def left_running(folder: Path) -> list[psutil.Process]:
    """What was started for a folder, and has not ended."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]


def forked_of(server: psutil.Process) -> list[psutil.Process]:
    """The processes that are forked from one that has imported what they need: the store of traces, and the workers."""
    return [forked for child in server.children() for forked in child.children()]


def test_what_it_prints_works_when_pasted(logged_model: str, tmp_path: Path) -> None:
    port = free_port()
    with serving(logged_model, ROOT, port, AGENT_DATA_DIR=str(tmp_path)):
        printed = (ROOT / "server.log").read_text()
        (ROOT / "server.log").unlink()
        assert "offline model" in printed
        pasted = printed[printed.index("curl") :]
        done = subprocess.run(["bash", "-e"], input=pasted, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "You said you are going to SF" in done.stdout


def test_a_taken_port_is_said(logged_model: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert start_server(logged_model, tmp_path, taken.getsockname()[1]).wait(30) != 0
    printed = (tmp_path / "server.log").read_text()
    assert "Address already in use" in printed
    assert "make serve PORT=" in printed


@pytest.mark.parametrize(
    ("workers", "setting", "reason"),
    [("1", {"LANGGRAPH_AES_KEY": "short"}, "must be 16, 24 or 32 bytes"), ("2", {"MAX_STEPS": "abc"}, "valid integer")],
)
def test_why_it_does_not_start_is_told_without_traceback(
    workers: str, setting: dict[str, str], reason: str, logged_model: str, tmp_path: Path
) -> None:
    assert start_server(logged_model, tmp_path, free_port(), "--workers", workers, **setting).wait(60) == 3
    printed = (tmp_path / "server.log").read_text()
    assert reason in printed
    assert "Traceback" not in printed


def test_a_conversation_survives_kill_9(logged_model: str, tmp_path: Path) -> None:
    port = free_port()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0)
    thread: Any = {"custom_inputs": {"thread_id": "t"}}
    with serving(logged_model, tmp_path, port) as process:
        client.responses.create(model="m", input="I'm headed to SF!", extra_body=thread)
        server = psutil.Process(process.pid)
        for each in [server, *server.children(recursive=True)]:
            each.kill()
    with serving(logged_model, tmp_path, port) as process:
        answer = client.responses.create(model="m", input="Where am I going?", extra_body=thread)
        assert "SF" in answer.output_text
        process.send_signal(signal.SIGINT)  # Ctrl-C
        process.wait(10)
    assert left_running(tmp_path) == []


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("after", [0, 1])
def test_ctrl_c_ends_a_server_that_still_loads_its_model(
    after: float, workers: str, logged_model: str, tmp_path: Path
) -> None:
    process = start_server(logged_model, tmp_path, free_port(), "--workers", workers)
    log = tmp_path / "server.log"
    eventually(lambda: "Loading" in log.read_text())
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert log.read_text().splitlines()[1:] == ["Stopped."]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_though_what_it_loads_swallows_interrupts(
    number: signal.Signals, workers: str, tmp_path: Path
) -> None:
    stubborn = "print(1, flush=True)\nwhile True:\n  try: input()\n  except BaseException: pass\n"
    (tmp_path / "my_agent.py").write_text(stubborn)
    process = start_server("my_agent.py", tmp_path, free_port(), "--workers", workers)
    log = tmp_path / "server.log"
    eventually(lambda: log.read_text().count("1\n") == int(workers))
    process.send_signal(number)
    process.wait(20)
    assert log.read_text().splitlines()[-1] == "Stopped."


def test_ctrl_c_ends_workers_that_only_begin(logged_model: str, tmp_path: Path) -> None:
    process = start_server(logged_model, tmp_path, free_port(), "--workers", "2")
    server = psutil.Process(process.pid)
    eventually(lambda: len(forked_of(server)) == 3)  # one stores traces
    for each in [server, *server.children(recursive=True)]:
        each.send_signal(signal.SIGINT)
    process.wait(20)
    assert (tmp_path / "server.log").read_text().splitlines()[1:] == ["Stopped."]


def test_workers_end_when_their_main_process_was_killed(logged_model: str, tmp_path: Path) -> None:
    with serving(logged_model, tmp_path, free_port(), "--workers", "2") as process:
        others = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert psutil.wait_procs(others, 20)[1] == []
    assert left_running(tmp_path) == []


@pytest.fixture
def terminal() -> Iterator[None]:
    """Lets processes heed that their terminal is closed, also where the tests run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_terminal_ends_the_server_and_its_database(workers: str, logged_model: str, tmp_path: Path) -> None:
    with serving(logged_model, tmp_path, free_port(), "--workers", workers) as process:
        server = psutil.Process(process.pid)
        for each in [server, *server.children(recursive=True)]:
            each.send_signal(signal.SIGHUP)
        process.wait(20)
    assert left_running(tmp_path) == []


def test_workers_serve_the_same_threads(logged_model: str, tmp_path: Path) -> None:
    port = free_port()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=5)
    thread: Any = {"custom_inputs": {"thread_id": "t"}}
    with serving(logged_model, tmp_path, port, "--workers", "2") as process:
        client.responses.create(model="m", input="I'm headed to SF!", extra_body=thread)
        *_, victim = forked_of(psutil.Process(process.pid))
        victim.suspend()
        time.sleep(1)  # it is asked whether it lives
        victim.kill()
        for _ in range(5):
            answer = client.responses.create(model="m", input="Where am I going?", extra_body=thread)
            assert "SF" in answer.output_text
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert left_running(tmp_path) == []
    assert (tmp_path / "server.log").read_text().count("Try it") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_stops_says_so_to_every_caller(workers: str, logged_model: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    model = with_agent(logged_model, ROOT / "tests" / "commanded_agent.py", tmp_path)
    asked = {"input": "count on", "custom_inputs": {"thread_id": "plain"}}
    options = ("--workers", workers, "--shutdown-seconds", "2")
    with serving(model, tmp_path, port, *options) as process, ThreadPoolExecutor() as callers:
        plain = callers.submit(httpx.post, f"{url}/responses", json=asked, timeout=20)
        eventually(lambda: httpx.get(f"{url}/threads/plain/state").status_code == 200)
        stream = Stream(url, "t", "count on")
        stream.until("response.created")
        server = psutil.Process(process.pid)
        for _ in range(2):  # Ctrl-C, and once more, as nothing seems to happen
            for each in [server, *server.children(recursive=True)]:
                each.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert stream.until("error")["code"] == "shutting_down"
        assert "data: [DONE]" in stream.rest()  # it ended; it was not cut
        assert (plain.result().status_code, plain.result().json()["error"]["code"]) == (503, "shutting_down")
        assert process.wait(15) is not None
    assert "Traceback" not in (tmp_path / "server.log").read_text()
    assert left_running(tmp_path) == []
    assert [event["sequence_number"] for event in stream.events] == list(range(len(stream.events)))
