"""The program that checks a model behind a server: python -I check_servers.py FOLDER REPORT_FILE SERVER.

`SERVER` is `scoring` or `agent`, MLflow's for the model in the folder; or `app`, the server that the `app.yaml` in the
folder starts. Like `check_program.py`, it imports nothing of this library.
"""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

TURN = {"input": [{"role": "user", "content": "What can you do?"}], "store": False}
CALLERS = 3
SECONDS = 300


def problem_behind(server: str, model: Path, folder: Path) -> str | None:
    """What keeps a model from answering several callers at once behind a server; `None` if nothing does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / f"{server}.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            command(server, model, port),
            cwd=model if server == "app" else folder,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        if not answers(running, port, "/ping" if server == "scoring" else "/health"):
            return f"The {server} server does not start: {last_line(log)}"
        with ThreadPoolExecutor() as callers:
            streams = server != "scoring"  # which answers in one piece
            answered = [callers.submit(ask, port, TURN | {"stream": streams and not one}) for one in range(CALLERS)]
            problems = [one.result() for one in answered]
        return next((problem for problem in problems if problem), None)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, 15)
            running.wait(30)


def command(server: str, model: Path, port: int) -> list[str]:
    """How a server is started."""
    if server == "scoring":
        options = ["-m", str(model), "--port", str(port), "--env-manager", "local", "--workers", "2"]
        return [sys.executable, "-m", "mlflow", "models", "serve", *options]
    if server == "app":
        import yaml

        _, *arguments = yaml.safe_load((model / "app.yaml").read_text())["command"]
        return [sys.executable, *(one.replace("$DATABRICKS_APP_PORT", str(port)) for one in arguments)]
    return [sys.executable, "-I", "-B", __file__, str(model), str(port), "serve"]


def environment() -> dict[str, str]:
    """This process's, without what would bring other packages in, and with this Python's programs ahead of others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONNOUSERSITE": "1"}


def serve(model: Path, port: int) -> None:
    """Serve a model with MLflow's `AgentServer`."""
    import mlflow
    import uvicorn
    from mlflow.genai.agent_server import AgentServer, invoke, stream

    agent = mlflow.pyfunc.load_model(str(model), suppress_warnings=True).get_raw_model()
    invoke()(lambda request: agent.predict(request))
    stream()(lambda request: agent.predict_stream(request))
    uvicorn.run(AgentServer("ResponsesAgent").app, host="127.0.0.1", port=port)


def answers(running: subprocess.Popen[bytes], port: int, path: str) -> bool:
    """Whether a server comes up."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and running.poll() is None:
        try:
            if request(port, "GET", path)[0] == 200:
                return True
        except OSError:
            time.sleep(0.2)
    return False


def ask(port: int, body: dict[str, Any]) -> str | None:
    """Why a model does not answer a request; `None` if it does."""
    status, text = request(port, "POST", "/invocations", body)
    if status != 200:
        return f"The model does not answer: {status} {text[:500]}"
    if not body["stream"]:
        return None if json.loads(text)["output"] else "The model's answer is empty."
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    if not any(event.get("type") == "response.completed" for event in events):
        return f"The model's stream did not complete: it ended with {events[-1:]}"
    return None


def request(port: int, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """The status and the text of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    headers = {"Content-Type": "application/json", "X-Forwarded-User": "deployment-check"}  # which an app's proxy adds
    connection.request(method, path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def last_line(log: Path) -> str:
    """The last line of a log that says something, other than that a process has ended."""
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Child process" not in line), "it printed nothing")


if __name__ == "__main__":
    if sys.argv[3] == "serve":
        serve(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        report = Path(sys.argv[2])
        report.write_text(json.dumps(problem_behind(sys.argv[3], Path(sys.argv[1]), report.parent)))
