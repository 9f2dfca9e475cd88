"""Stand-ins for the APIs of model providers, over HTTP, as their own clients speak to them.

Each answers what it is told to, in its provider's wire format, and keeps what it was asked.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, Literal

from http_api import HttpApi, send_json

Json = dict[str, Any]


@dataclass(frozen=True)
class Thinking:
    """What the model thinks before it answers, and the provider's signature of it."""

    text: str
    signature: str = "c2lnbmVk"


@dataclass(frozen=True)
class Call:
    """A call of a function; its arguments as the model writes them."""

    name: str
    arguments: str
    call_id: str = "call_1"


@dataclass(frozen=True)
class Cited:
    """Text that rests on a page, or on a document that came with the input."""

    text: str
    url: str | None = "https://example.com/a"
    title: str = "A page"


@dataclass(frozen=True)
class Reply:
    """A model's answer, part by part: texts are cut into pieces of five characters."""

    parts: Sequence[str | Cited | Thinking | Call] = ("an answer",)
    stop: Literal["end", "length", "refusal"] = "end"
    cached: int = 0
    pause: float = 0
    """Seconds before each piece, once the answer has begun."""

    breaks_off: bool = False
    """Whether the stream ends before its end, without a sign that something is wrong."""

    fails: str | None = None
    """The failure that comes instead of the end."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error: see `FAILURES`."""

    failure: str
    headers: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Silence:
    """No answer, for so many seconds."""

    seconds: float


Answer = Reply | Refusal | Silence

INPUT_TOKENS, OUTPUT_TOKENS, REASONING_TOKENS = 100, 20, 5


class ModelApi(HttpApi):
    """A provider's API. It gives its `answers` in order, and the last of them again and again."""

    FAILURES: ClassVar[dict[str, tuple[int, Json]]]
    """The status and the body by which a provider says what is wrong."""

    content_type = "text/event-stream"
    opening = 2
    """The number of a stream's first piece that holds words."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self.answers = list(answers)
        self.bodies: list[bytes] = []

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.bodies.append(body)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Silence):
            self.stopped.wait(answer.seconds)
            handler.close_connection = True
        elif isinstance(answer, Refusal):
            status, failure = self.FAILURES[answer.failure]
            send_json(handler, status, failure, self.error_headers(answer.failure) | answer.headers)
        else:
            handler.send_response(200)
            handler.send_header("content-type", self.content_type)
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            for n, piece in enumerate(self.stream(answer)):
                self.stopped.wait(answer.pause if n > self.opening else 0)
                for part in (piece[: len(piece) // 2], piece[len(piece) // 2 :]):  # where chunks end says nothing
                    handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                    handler.wfile.flush()
            handler.wfile.write(b"0\r\n\r\n")

    @property
    def requests(self) -> list[Json]:
        """The bodies of what was asked."""
        return [json.loads(body) for body in self.bodies]

    def error_headers(self, failure: str) -> Json:
        """The headers of an answer that is an error."""
        return {}

    def stream(self, reply: Reply) -> Iterator[bytes]:
        """A reply in the provider's format, piece by piece."""
        raise NotImplementedError


def pieces(text: str) -> list[str]:
    return [text[n : n + 5] for n in range(0, len(text), 5)]


def sse(data: Json) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
