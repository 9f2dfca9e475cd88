"""The servers that a run measures: the logged model as users serve it, and what it is compared with."""

import functools
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
HELLO = json.dumps({"input": [{"role": "user", "content": "hello"}]})
HELP = [sys.executable, "-m", "stateful_agent.server.processes", "--help"]


def log_model(tracking_uri: str, folder: Path) -> str:
    """Log the agent, as `make serve` does. Returns the logged model's folder."""
    path_file = folder / "model.path"
    command = [sys.executable, str(ROOT / "log_and_deploy.py"), "log", "--path-file", str(path_file)]
    environment = _environment(MLFLOW_TRACKING_URI=tracking_uri, PYTHONPATH=str(ROOT))
    with (folder / "log_model.log").open("wb") as log:
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=log, stderr=log)
    return path_file.read_text()


def with_agent(model: str, agent_file: Path, folder: Path) -> str:
    """A copy of a logged model around another agent. Returns its folder."""
    shutil.copytree(model, folder)
    shutil.copy(agent_file, folder)
    described = folder / "MLmodel"
    described.write_text(described.read_text().replace("agent.py", agent_file.name))
    return str(folder)


@functools.cache
def has_workers() -> bool:
    """Whether this project's server can be told how many processes to run."""
    return "--workers" in subprocess.run(HELP, cwd=ROOT, check=True, capture_output=True, text=True).stdout


class Served:
    """A running server, with all its processes."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port, self._process = port, process

    def answers(self, protocol: str = "responses") -> bool:
        """Whether it answers yet, in that protocol.

        Raises:
            RuntimeError: it has ended instead.
        """
        if self._process.poll() is not None:
            raise RuntimeError("The server has ended; its log says why.")
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            path = "/responses" if protocol == "responses" else "/threads"
            connection.request("POST", path, HELLO, {"content-type": "application/json"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def memory(self) -> float:
        """What its processes hold in memory, in MiB. On Linux, what several of them share counts once."""
        held = (process.memory_full_info() for process in self._processes())
        return sum(getattr(each, "pss", each.rss) for each in held) / 2**20

    def processor_time(self) -> float:
        """The seconds that its processes have kept a core busy so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def served(model: str, folder: Path, *, environment: dict[str, str], workers: int) -> Iterator[Served]:
    """Serve a logged model as `make serve` does, until it has answered."""
    command = [sys.executable, "-P", "-m", "stateful_agent.server.processes", model]
    if has_workers():
        command += ["--workers", str(workers)]
    with _running(command, folder, folder, {"PYTHONPATH": f"{model}/code"} | environment) as server:
        yield server


@contextmanager
def command_served(command: list[str], folder: Path, *, environment: dict[str, str], protocol: str) -> Iterator[Served]:
    """Run a server, until it has answered in its protocol."""
    with _running(command, folder, folder, environment, protocol) as server:
        yield server


def settle(servers: list[Served]) -> None:
    """Wait until what the servers do behind their answers, such as writing traces, is done."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        before = sum(server.processor_time() for server in servers)
        time.sleep(0.25)
        if sum(server.processor_time() for server in servers) - before < 0.02:
            return


@contextmanager
def other_served(module: str, folder: Path, *, environment: dict[str, str], workers: int) -> Iterator[Served]:
    """Serve the `application` of another design's module, until it has answered."""
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{module}:application", "--workers", str(workers)]
    with _running([*command, "--log-level", "warning"], ROOT, folder, environment) as server:
        yield server


def _environment(**variables: str) -> dict[str, str]:
    """This process's, without what MLflow tells its child processes: where the traces of this one go."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_EXPERIMENT")} | variables


@contextmanager
def _running(
    command: list[str], cwd: Path, folder: Path, environment: dict[str, str], protocol: str = "responses"
) -> Iterator[Served]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=cwd, env=_environment(**environment), stdout=log, stderr=log
        )
        try:
            server = Served(process, port)
            while not server.answers(protocol):
                time.sleep(0.02)
            yield server
        finally:
            process.terminate()
            process.wait(30)
