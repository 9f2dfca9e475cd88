"""Stand-ins for OpenAI's chat completions and Responses API, which Azure, Databricks and many others have as well."""

from collections.abc import Iterator
from typing import Any, ClassVar

from model_apis import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    Call,
    Cited,
    Json,
    ModelApi,
    Reply,
    Thinking,
    pieces,
    sse,
)


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
            yield sse({"error": body.get("error", body)})
        elif not reply.breaks_off:
            stop = "content_filter" if reply.stop == "refusal" and self.filters else reply.stop
            yield self._chunk({}, {"end": "tool_calls" if calls else "stop", "refusal": "stop"}.get(stop, stop))
            yield self._usage(reply)
            yield b"data: [DONE]\n\n"

    def thinking(self, text: str) -> Json:
        """A piece of what the model thinks, as a delta."""
        return {"reasoning_content": text}

    def _chunk(self, delta: Json, reason: str | None = None) -> bytes:
        return sse(self._about() | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def _usage(self, reply: Reply) -> bytes:
        usage = {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": reply.cached},
            "completion_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
        }
        return sse(self._about() | {"choices": [], "usage": usage})

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
        return f"event: {kind}\n".encode() + sse({"type": kind, "sequence_number": self._number} | fields)
