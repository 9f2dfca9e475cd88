"""A stand-in for OpenAI's chat completions, over HTTP: it streams one text, and keeps what it was asked."""

import http.server
import json
import threading
from typing import Any, Self


class OpenAIApi:
    """Answers every request with the same text, in pieces; with `breaks_off`, its streams end without their end."""

    def __init__(self, text: str, *, breaks_off: bool = False) -> None:
        self.requests: list[dict[str, Any]] = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                api.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
                deltas += [({"content": text[n : n + 5]}, None) for n in range(0, len(text), 5)]
                for delta, reason in deltas if breaks_off else [*deltas, ({}, "stop")]:
                    choice = {"index": 0, "delta": delta, "finish_reason": reason}
                    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                    self.wfile.write(f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n".encode())
                if not breaks_off:
                    self.wfile.write(b"data: [DONE]\n\n")

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
