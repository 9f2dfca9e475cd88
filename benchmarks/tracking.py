"""An MLflow tracking server that takes traces and forgets them: all of one that its clients notice, on another machine.

python -m benchmarks.tracking    prints its port; then, for each line of input, how many traces it was sent
"""

import asyncio
import json
import subprocess
import sys
import threading
from typing import Any

import mlflow
import uvloop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EXPERIMENT = {"experiment_id": "0", "name": "Default", "lifecycle_stage": "active", "artifact_location": "/nowhere"}
STORED_WITH_TRACE = {"mlflow.trace.spansLocation": "TRACKING_STORE"}


class Tracking:
    """Runs what MLflow's client asks when it sends traces."""

    def __init__(self) -> None:
        self.traces = 0

    def answer(self, path: str, body: bytes) -> bytes:
        """The answer to a request."""
        if path == "/version":
            return mlflow.__version__.encode()
        if path == "/api/3.0/mlflow/traces":
            self.traces += 1
            sent = json.loads(body)
            sent["trace"]["trace_info"]["tags"] |= STORED_WITH_TRACE
            return json.dumps(sent).encode()
        if path.startswith("/api/2.0/mlflow/experiments/get"):
            return json.dumps({"experiment": EXPERIMENT}).encode()
        if path == "/v1/traces":
            sent_spans = ExportTraceServiceRequest.FromString(body)
            for resource in sent_spans.resource_spans:
                for scope in resource.scope_spans:
                    self.traces += sum(not span.parent_span_id for span in scope.spans)
        return b"{}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = [line.partition(": ") for line in head.splitlines()]
                length = next((int(value) for name, _, value in lines if name.lower() == "content-length"), 0)
                path = head.split(" ")[1].partition("?")[0]
                answer = self.answer(path, await reader.readexactly(length))
                kind = "text/plain" if path == "/version" else "application/json"
                head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n\r\n"
                writer.write(head.encode() + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class TrackingServer:
    """A running one."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.tracking"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self._read()}"

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()

    def traces(self) -> int:
        """How many traces it was sent so far."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._read())

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Run until the input ends."""
    tracking, loop = Tracking(), uvloop.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(tracking.serve, "127.0.0.1", 0))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    print(server.sockets[0].getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(tracking.traces, flush=True)


if __name__ == "__main__":
    main()
