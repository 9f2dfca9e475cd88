"""A stand-in for OpenAI's embeddings, over HTTP: texts about the same subject have vectors that are alike."""

import http.server
import json
import threading
from typing import Any, Self

SUBJECTS = (("tea", "coffee", "drink"), ("cake", "bread", "eat"), ("train", "plane", "travel"))
DIMENSIONS = len(SUBJECTS) + 1


def vector(text: str) -> list[float]:
    return [float(sum(text.lower().count(word) for word in subject)) for subject in SUBJECTS] + [0.1]


class EmbeddingsApi:
    """Answers once it is `open`; `status` is what it answers with."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.status = 200
        self.open = threading.Event()
        self.open.set()
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
                api.texts += texts
                api.open.wait(30)
                vectors = [{"object": "embedding", "index": n, "embedding": vector(t)} for n, t in enumerate(texts)]
                usage = {"prompt_tokens": 1, "total_tokens": 1}
                body: Any = {"object": "list", "data": vectors, "model": "m", "usage": usage}
                if api.status != 200:
                    body = {"error": {"message": "No: sk-5ecret5ecret.", "type": "server_error", "code": None}}
                self.send_response(api.status)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
