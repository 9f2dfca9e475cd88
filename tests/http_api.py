"""An API over HTTP that a test stands in for."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class HttpApi:
    """Listens on a port of this machine while it is entered, and answers what is posted, or asked by these methods."""

    def __init__(self, *methods: str) -> None:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # the client has hung up
                    super().handle()

            def do_POST(self) -> None:
                api.answer(self, self.rfile.read(int(self.headers.get("content-length", 0))))

            def log_message(self, *args: Any) -> None:
                pass

        for method in methods:
            setattr(Handler, f"do_{method}", Handler.do_POST)
        self.stopped = threading.Event()
        """What waits, waits for this as well."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer a request."""
        raise NotImplementedError


def send_json(handler: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, Any] | None = None) -> None:
    content = json.dumps(body).encode()
    about = {"content-type": "application/json", "content-length": len(content)} | (headers or {})
    handler.send_response(status)
    for name, value in about.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(content)
