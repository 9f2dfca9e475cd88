"""A stand-in for OpenAI's embeddings, over HTTP: texts about the same subject have vectors that are alike."""

import json
import threading
from http.server import BaseHTTPRequestHandler

from http_api import HttpApi, send_json

SUBJECTS = (("tea", "coffee", "drink"), ("cake", "bread", "eat"), ("train", "plane", "travel"))
DIMENSIONS = len(SUBJECTS) + 1


def vector(text: str) -> list[float]:
    return [float(sum(text.lower().count(word) for word in subject)) for subject in SUBJECTS] + [0.1]


class EmbeddingsApi(HttpApi):
    """Answers once it is `open`; `status` is what it answers with."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.status = 200
        self.open = threading.Event()
        self.open.set()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        texts = json.loads(body)["input"]
        self.texts += texts
        self.open.wait(30)
        if self.status != 200:
            error = {"message": "No: sk-5ecret5ecret.", "type": "server_error", "code": None}
            send_json(handler, self.status, {"error": error})
            return
        vectors = [{"object": "embedding", "index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        send_json(handler, 200, {"object": "list", "data": vectors, "model": "m", "usage": usage})
