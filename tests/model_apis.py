"""Stand-ins for the APIs of model providers, over HTTP, as their own clients speak to them.

Each answers what it is told to, in its provider's wire format, and keeps what it was asked. OpenAI's and Databricks'
chat completions (Azure's are the same at another path), Anthropic's messages, and Amazon Bedrock's ConverseStream.
"""

import http.server
import json
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self
from zlib import crc32

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


class ModelApi:
    """A provider's API. It gives its `answers` in order, and the last of them again and again."""

    FAILURES: ClassVar[dict[str, tuple[int, Json]]]
    """The status and the body by which a provider says what is wrong."""

    content_type = "text/event-stream"
    opening = 2
    """The number of a stream's first piece that holds words."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                api.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                api.paths.append(self.path)
                api.times.append(time.monotonic())
                answer = api.answers.pop(0) if len(api.answers) > 1 else api.answers[0]
                try:
                    self._answer(answer)
                except (BrokenPipeError, ConnectionResetError):  # the client has hung up
                    self.close_connection = True

            def _answer(self, answer: Answer) -> None:
                if isinstance(answer, Silence):
                    api._stopped.wait(answer.seconds)
                    self.close_connection = True
                elif isinstance(answer, Refusal):
                    status, body = api.FAILURES[answer.failure]
                    content = json.dumps(body).encode()
                    self.send_response(status)
                    headers = {"content-type": "application/json", "content-length": str(len(content))}
                    for name, value in (headers | api.error_headers(answer.failure) | answer.headers).items():
                        self.send_header(name, str(value))
                    self.end_headers()
                    self.wfile.write(content)
                else:
                    self.send_response(200)
                    self.send_header("content-type", api.content_type)
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    for n, piece in enumerate(api.stream(answer)):
                        api._stopped.wait(answer.pause if n > api.opening else 0)
                        self._send(piece)
                    self.wfile.write(b"0\r\n\r\n")

            def _send(self, piece: bytes) -> None:
                """In two chunks: where they end says nothing."""
                for part in (piece[: len(piece) // 2], piece[len(piece) // 2 :]):
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                    self.wfile.flush()

            def log_message(self, *args: Any) -> None:
                pass

        self._stopped = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> list[Json]:
        """The bodies of what was asked."""
        return [json.loads(body) for body in self.bodies]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def error_headers(self, failure: str) -> Json:
        """The headers of an answer that is an error."""
        return {}

    def stream(self, reply: Reply) -> Iterator[bytes]:
        """A reply in the provider's format, piece by piece."""
        raise NotImplementedError


def pieces(text: str) -> list[str]:
    return [text[n : n + 5] for n in range(0, len(text), 5)]


class ChatCompletions(ModelApi):
    """OpenAI's chat completions, which Azure, Databricks and many others have as well."""

    filters = False
    """Whether a refusal is content that was filtered."""

    FAILURES: ClassVar = {
        "limited": (429, {"error": {"message": "Slow down.", "type": "requests", "code": "rate_limit_exceeded"}}),
        "overloaded": (503, {"error": {"message": "We are overloaded.", "type": "server_error", "code": None}}),
        "broken": (500, {"error": {"message": "It broke.", "type": "server_error", "code": None}}),
        "key": (
            401,
            {"error": {"message": "Incorrect API key provided: sk-5ecret5ecret.", "code": "invalid_api_key"}},
        ),
        "invalid": (400, {"error": {"message": "A bad image.", "type": "invalid_request_error", "code": None}}),
        "too long": (
            400,
            {
                "error": {
                    "message": "This model's maximum context length is 10 tokens.",
                    "code": "context_length_exceeded",
                }
            },
        ),
    }

    def stream(self, reply: Reply) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})
        calls = said = 0
        for part in reply.parts:
            if isinstance(part, Thinking):
                yield from (self._chunk(self.thinking(piece)) for piece in pieces(part.text))
            elif isinstance(part, Call):
                about = {"index": calls, "id": part.call_id, "type": "function"}
                yield self._chunk({"tool_calls": [about | {"function": {"name": part.name, "arguments": ""}}]})
                for piece in pieces(part.arguments):
                    yield self._chunk({"tool_calls": [{"index": calls, "function": {"arguments": piece}}]})
                calls += 1
            elif isinstance(part, Cited):
                yield from (self._chunk({"content": piece}) for piece in pieces(part.text))
                place = {"start_index": said, "end_index": said + len(part.text)}
                cited = {"url": part.url, "title": part.title} | place
                yield self._chunk({"annotations": [{"type": "url_citation", "url_citation": cited}]})
            elif reply.stop == "refusal" and not self.filters:
                yield from (self._chunk({"refusal": piece}) for piece in pieces(part))
            else:
                yield from (self._chunk({"content": piece}) for piece in pieces(part))
            said += len(part) if isinstance(part, str) else len(part.text) if isinstance(part, Cited) else 0
        if reply.fails:
            body = self.FAILURES[reply.fails][1]
            yield _event({"error": body.get("error", body)})
        elif not reply.breaks_off:
            stop = "content_filter" if reply.stop == "refusal" and self.filters else reply.stop
            yield self._chunk({}, {"end": "tool_calls" if calls else "stop", "refusal": "stop"}.get(stop, stop))
            yield self._usage(reply)
            yield b"data: [DONE]\n\n"

    def thinking(self, text: str) -> Json:
        """A piece of what the model thinks, as a delta."""
        return {"reasoning_content": text}

    def _chunk(self, delta: Json, reason: str | None = None) -> bytes:
        return _event(self._about() | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def _usage(self, reply: Reply) -> bytes:
        usage = {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": reply.cached},
            "completion_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
        }
        return _event(self._about() | {"choices": [], "usage": usage})

    @staticmethod
    def _about() -> Json:
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


class DatabricksServing(ChatCompletions):
    """Databricks' endpoints of foundation models: what they think is a part of the content."""

    filters = True

    FAILURES: ClassVar = ChatCompletions.FAILURES | {
        "limited": (429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Slow down."}),
        "overloaded": (503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "We are overloaded."}),
        "broken": (500, {"error_code": "INTERNAL_ERROR", "message": "It broke."}),
        "key": (403, {"error_code": "403", "message": "Invalid access token dapi5ecret5ecret."}),
        "invalid": (400, {"error_code": "BAD_REQUEST", "message": "A bad image."}),
        "too long": (400, {"error_code": "BAD_REQUEST", "message": "Input is too long: prompt is too long: 20 > 10"}),
    }

    def thinking(self, text: str) -> Json:
        summary = [{"type": "summary_text", "text": text, "signature": ""}]
        return {"content": [{"type": "reasoning", "summary": summary}]}


class Responses(ModelApi):
    """OpenAI's Responses API, which Azure and Databricks have as well."""

    FAILURES: ClassVar = ChatCompletions.FAILURES | {
        "invalid": (
            400,
            {"error": {"message": "A bad image.", "type": "invalid_request_error", "code": "invalid_image"}},
        )
    }
    opening = 3

    def stream(self, reply: Reply) -> Iterator[bytes]:
        self._number, turn = 0, len(self.bodies)
        response: Json = {"id": f"resp_{turn}", "object": "response", "created_at": 1, "model": "m", "output": []}
        response |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "in_progress"}
        yield self._event("response.created", response=response)
        for index, part in enumerate(reply.parts):
            item, added, events = self._item(part, reply, f"{turn}_{index}")
            yield self._event("response.output_item.added", output_index=index, item=added)
            for kind, fields in events:
                yield self._event(f"response.{kind}", output_index=index, item_id=item["id"], **fields)
            yield self._event("response.output_item.done", output_index=index, item=item)
            response["output"].append(item)
        if reply.fails == "overloaded":
            error = {"code": "server_error", "message": self.FAILURES[reply.fails][1]["error"]["message"]}
            yield self._event("response.failed", response=response | {"status": "failed", "error": error})
        elif reply.fails:
            error = self.FAILURES[reply.fails][1]["error"]
            yield self._event("error", code=error["code"], message=error["message"], param=None)
        elif not reply.breaks_off:
            status = "incomplete" if reply.stop == "length" else "completed"
            reason = {"incomplete_details": {"reason": "max_output_tokens"}} if reply.stop == "length" else {}
            usage = {
                "input_tokens": INPUT_TOKENS,
                "input_tokens_details": {"cached_tokens": reply.cached},
                "output_tokens": OUTPUT_TOKENS,
                "output_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
                "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            }
            yield self._event(f"response.{status}", response=response | reason | {"status": status, "usage": usage})

    def _item(
        self, part: str | Cited | Thinking | Call, reply: Reply, number: str
    ) -> tuple[Json, Json, list[tuple[str, Json]]]:
        """An item, as it is at first, and the events in between."""
        if isinstance(part, Thinking):
            summary = [{"type": "summary_text", "text": part.text}]
            item: Json = {
                "id": f"rs_{number}",
                "type": "reasoning",
                "summary": summary,
                "encrypted_content": part.signature,
            }
            place: Json = {"summary_index": 0}
            events = [("reasoning_summary_part.added", place | {"part": {"type": "summary_text", "text": ""}})]
            events += [("reasoning_summary_text.delta", place | {"delta": piece}) for piece in pieces(part.text)]
            return item, item | {"summary": []}, events
        if isinstance(part, Call):
            item = {"id": f"fc_{part.call_id}", "type": "function_call", "call_id": part.call_id, "name": part.name}
            deltas = [("function_call_arguments.delta", {"delta": piece}) for piece in pieces(part.arguments)]
            return item | {"arguments": part.arguments}, item | {"arguments": ""}, deltas
        text = part if isinstance(part, str) else part.text
        refuses = reply.stop == "refusal"
        content: Json = {"type": "output_text", "text": text, "annotations": []}
        events, place = [], {"content_index": 0}
        if refuses:
            content = {"type": "refusal", "refusal": text}
        events = [("content_part.added", place | {"part": content | {"refusal" if refuses else "text": ""}})]
        kind = "refusal" if refuses else "output_text"
        events += [(f"{kind}.delta", place | {"delta": piece, "logprobs": []}) for piece in pieces(text)]
        if refuses:
            events.append(("refusal.done", place | {"refusal": text}))
        if isinstance(part, Cited):
            span = {"start_index": 0, "end_index": len(text)}
            cited = {"type": "url_citation", "url": part.url, "title": part.title} | span
            events.append(("output_text.annotation.added", place | {"annotation_index": 0, "annotation": cited}))
            content["annotations"] = [cited]
        item = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [content],
        }
        return item, item | {"content": []}, events

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return f"event: {kind}\n".encode() + _event({"type": kind, "sequence_number": self._number} | fields)


class Anthropic(ModelApi):
    """Anthropic's messages."""

    FAILURES: ClassVar = {
        name: (status, {"type": "error", "error": {"type": kind, "message": message}})
        for name, status, kind, message in (
            ("limited", 429, "rate_limit_error", "Slow down."),
            ("overloaded", 529, "overloaded_error", "We are overloaded."),
            ("broken", 500, "api_error", "It broke."),
            ("key", 401, "authentication_error", "invalid x-api-key sk-5ecret5ecret"),
            ("invalid", 400, "invalid_request_error", "A bad image."),
            ("too long", 400, "invalid_request_error", "prompt is too long: 20 tokens > 10 maximum"),
        )
    }

    def stream(self, reply: Reply) -> Iterator[bytes]:
        usage = {
            "input_tokens": INPUT_TOKENS - reply.cached,
            "cache_read_input_tokens": reply.cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": 1,
        }
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
        yield self._event("message_start", message=message | {"stop_reason": None, "usage": usage})
        for index, part in enumerate(reply.parts):
            if isinstance(part, Thinking):
                block: Json = {"type": "thinking", "thinking": "", "signature": ""}
                deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(part.text)]
                deltas.append({"type": "signature_delta", "signature": part.signature})
            elif isinstance(part, Call):
                block = {"type": "tool_use", "id": part.call_id, "name": part.name, "input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(part.arguments)]
            elif isinstance(part, Cited):
                block = {"type": "text", "text": "", "citations": []}
                deltas = [{"type": "text_delta", "text": piece} for piece in pieces(part.text)]
                deltas.append({"type": "citations_delta", "citation": self._citation(part)})
            else:
                block = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in pieces(part)]
            yield self._event("content_block_start", index=index, content_block=block)
            yield from (self._event("content_block_delta", index=index, delta=delta) for delta in deltas)
            yield self._event("content_block_stop", index=index)
            yield self._event("ping")
        if reply.fails:
            yield b"event: error\n" + _event(self.FAILURES[reply.fails][1])
        elif not reply.breaks_off:
            calls = any(isinstance(part, Call) for part in reply.parts)
            stop = {"length": "max_tokens", "refusal": "refusal"}.get(reply.stop, "tool_use" if calls else "end_turn")
            delta = {"stop_reason": stop, "stop_sequence": None}
            yield self._event("message_delta", delta=delta, usage=usage | {"output_tokens": OUTPUT_TOKENS})
            yield self._event("message_stop")

    @staticmethod
    def _citation(part: Cited) -> Json:
        if part.url:
            about = {"url": part.url, "title": part.title, "cited_text": "so", "encrypted_index": "x"}
            return {"type": "web_search_result_location"} | about
        place = {"start_char_index": 0, "end_char_index": 2, "document_index": 0, "document_title": part.title}
        return {"type": "char_location", "cited_text": "so", "file_id": None} | place

    @staticmethod
    def _event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\n".encode() + _event({"type": kind} | fields)


class Bedrock(ModelApi):
    """Amazon Bedrock's ConverseStream: AWS' own binary event stream."""

    content_type = "application/vnd.amazon.eventstream"
    TYPES: ClassVar = {
        "limited": "ThrottlingException",
        "overloaded": "ServiceUnavailableException",
        "broken": "InternalServerException",
        "key": "UnrecognizedClientException",
        "invalid": "ValidationException",
        "too long": "ValidationException",
    }
    FAILURES: ClassVar = {
        "limited": (429, {"message": "Slow down."}),
        "overloaded": (503, {"message": "We are overloaded."}),
        "broken": (500, {"message": "It broke."}),
        "key": (403, {"message": "The security token AKIA5ECRET5ECRET included in the request is invalid."}),
        "invalid": (400, {"message": "A bad image."}),
        "too long": (400, {"message": "Input is too long for requested model."}),
    }

    def error_headers(self, failure: str) -> Json:
        return {"x-amzn-errortype": self.TYPES[failure]}

    def stream(self, reply: Reply) -> Iterator[bytes]:
        yield _frame("event", "messageStart", {"role": "assistant"})
        for index, part in enumerate(reply.parts):
            if isinstance(part, Call):
                start = {"toolUse": {"toolUseId": part.call_id, "name": part.name}}
                yield _frame("event", "contentBlockStart", {"contentBlockIndex": index, "start": start})
                deltas: list[Json] = [{"toolUse": {"input": piece}} for piece in pieces(part.arguments)]
            elif isinstance(part, Thinking):
                deltas = [{"reasoningContent": {"text": piece}} for piece in pieces(part.text)]
                deltas.append({"reasoningContent": {"signature": part.signature}})
            elif isinstance(part, Cited):
                deltas = [{"text": piece} for piece in pieces(part.text)]
                place = {"documentChar": {"documentIndex": 0, "start": 0, "end": 2}}
                location: Json = {"web": {"url": part.url, "domain": "example.com"}} if part.url else place
                source = {"title": part.title, "location": location, "sourceContent": [{"text": "so"}]}
                deltas.append({"citation": source})
            else:
                deltas = [{"text": piece} for piece in pieces(part)]
            for delta in deltas:
                yield _frame("event", "contentBlockDelta", {"contentBlockIndex": index, "delta": delta})
            yield _frame("event", "contentBlockStop", {"contentBlockIndex": index})
        if reply.fails:
            kind = self.TYPES[reply.fails]
            yield _frame("exception", kind[0].lower() + kind[1:], self.FAILURES[reply.fails][1])
        elif not reply.breaks_off:
            calls = any(isinstance(part, Call) for part in reply.parts)
            stop = {"length": "max_tokens", "refusal": "content_filtered"}.get(
                reply.stop, "tool_use" if calls else "end_turn"
            )
            yield _frame("event", "messageStop", {"stopReason": stop})
            usage = {
                "inputTokens": INPUT_TOKENS - reply.cached,
                "outputTokens": OUTPUT_TOKENS,
                "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
                "cacheReadInputTokens": reply.cached,
                "cacheWriteInputTokens": 0,
            }
            yield _frame("event", "metadata", {"usage": usage, "metrics": {"latencyMs": 1}})


def _event(data: Json) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _frame(message_type: str, kind: str, payload: Json) -> bytes:
    """A message of AWS' event stream: lengths and a checksum, headers, the payload, a checksum of all.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
    """
    headers = b""
    for name, value in (
        (":message-type", message_type),
        (f":{message_type}-type", kind),
        (":content-type", "application/json"),
    ):
        headers += struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 12 + len(headers) + len(body) + 4, len(headers))
    message = prelude + struct.pack("!I", crc32(prelude)) + headers + body
    return message + struct.pack("!I", crc32(message))
