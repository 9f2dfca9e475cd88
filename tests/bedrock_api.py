"""A stand-in for Amazon Bedrock's ConverseStream."""

import json
import struct
from collections.abc import Iterator
from typing import ClassVar
from zlib import crc32

from model_apis import INPUT_TOKENS, OUTPUT_TOKENS, Call, Cited, Json, ModelApi, Reply, Thinking, pieces


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
