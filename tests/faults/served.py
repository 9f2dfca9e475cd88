import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from conftest import free_port, serving


class Server:
    """A served agent whose model is strict."""

    def __init__(self, model: str, folder: Path, **environment: str) -> None:
        folder.mkdir()
        self.name, self.runs, self.url = folder.name, folder / "runs", ""
        self._model, self._folder, self._environment = model, folder, environment | {"TOOL_RUNS": str(self.runs)}
        self.process: subprocess.Popen[bytes] | None = None
        self._running = ExitStack()

    def start(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        folder = self._folder / str(port)
        folder.mkdir()
        one = ("--workers", "1")  # so that all of it is killed
        self.process = self._running.enter_context(serving(self._model, folder, port, *one, **self._environment))

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._running.close()

    def ask(self, thread_id: str, request: str | Sequence[Any], **custom_inputs: Any) -> httpx.Response:
        ref = {"thread_id": thread_id} | custom_inputs
        return httpx.post(f"{self.url}/responses", json={"input": request, "custom_inputs": ref}, timeout=20)

    def say(self, thread_id: str, text: str) -> list[str]:
        """A turn. Returns what the model was given, a line for each message."""
        return received(answered(self.ask(thread_id, text)))

    def travel(self, operation: str, thread_id: str, **arguments: Any) -> Any:
        return answered(self.ask(thread_id, [], operation=operation, **arguments))["custom_outputs"]["result"]

    def tool_runs(self, thread_id: str) -> list[str]:
        """The tools that ran on a thread, in order."""
        runs = [line.rsplit(maxsplit=1) for line in self.runs.read_text().splitlines()]
        return [tool for ref, tool in runs if ref == thread_id]


def answered(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return dict(response.json())


def received(response: dict[str, Any]) -> list[str]:
    """What the model was given, from its last answer."""
    return str(response["output"][-1]["content"][0]["text"]).splitlines()[1:]
