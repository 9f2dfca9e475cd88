"""A stand-in for Anthropic's messages."""

from collections.abc import Iterator
from typing import Any, ClassVar

from model_apis import INPUT_TOKENS, OUTPUT_TOKENS, Call, Cited, Json, ModelApi, Reply, Thinking, pieces, sse


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
            yield b"event: error\n" + sse(self.FAILURES[reply.fails][1])
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
        return f"event: {kind}\n".encode() + sse({"type": kind} | fields)
