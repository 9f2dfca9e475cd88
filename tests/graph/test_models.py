import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.models import chat_model
from stateful_agent.graph.offline_model import NOTICE, OfflineModel, reply
from stateful_agent.graph.tools import current_time, search_tool

CANNOT_COMPARE = "I know of fewer than two temperatures in this conversation, so I cannot compare."
TOOLS: dict[str, dict[str, Any]] = {"search": {}, "current_time": {}}


def answer(*inputs: str) -> str:
    """What the offline model says after `inputs`, having answered all but the last."""
    messages = [message for text in inputs for message in (HumanMessage(text), AIMessage("ok"))][:-1]
    return str(reply(messages, TOOLS).text).removeprefix(NOTICE)


class TestOffline:
    def test_says_what_it_is_the_first_time_only(self) -> None:
        assert reply([HumanMessage("hello")], TOOLS).text.startswith(NOTICE)
        assert NOTICE not in reply([HumanMessage("hello"), AIMessage("hi"), HumanMessage("hello")], TOOLS).text

    def test_does_not_pretend(self) -> None:
        assert answer("What is the capital of France?").startswith("I have no rule for that.")

    @pytest.mark.parametrize(
        ("inputs", "expected"),
        [
            (["I'm headed to SF!", "Where did I say I'm going?"], "You said you are going to SF."),
            (
                ["I'm headed to SF!", "I'm headed to New York!", "Where am I going?"],
                "You said you are going to New York.",
            ),
            (["Where am I going?"], "You have not told me where you are going."),
            (["My name is Ada Lovelace.", "What is my name?"], "Your name is Ada Lovelace."),
            (["hello there", "What did I say?"], "You said: “hello there”"),
            (
                ["Which one is warmer?"],
                CANNOT_COMPARE,
            ),
        ],
    )
    def test_answers_from_the_conversation(self, inputs: list[str], expected: str) -> None:
        assert answer(*inputs) == expected

    @pytest.mark.parametrize(
        ("inputs", "calls"),
        [
            (["What is the weather in SF and LA?"], [{"query": "weather in SF"}, {"query": "weather in LA"}]),
            (["Weather in SF?", "What about in LA?"], [{"query": "weather in LA"}]),
            (["What time is it in Tokyo?"], [{"time_zone": "Asia/Tokyo"}]),
            (["What time is it?"], [{"time_zone": "UTC"}]),
            (["Search for Lakebase"], [{"query": "Lakebase"}]),
        ],
    )
    def test_asks_for_tools(self, inputs: list[str], calls: list[dict[str, str]]) -> None:
        messages = [HumanMessage(text) for text in inputs]
        assert [call["args"] for call in reply(messages, TOOLS).tool_calls] == calls
        assert reply(messages, {}).tool_calls == []

    def test_compares(self) -> None:
        results = [ToolMessage("Paris: 54°F", tool_call_id="1"), ToolMessage("Tokyo: 64°F", tool_call_id="2")]
        inputs = [HumanMessage("weather"), *results, HumanMessage("Which one is colder?")]
        assert reply(inputs, TOOLS).text.removeprefix(NOTICE) == "Paris is colder: 54°F, and Tokyo has 64°F."

    def test_streams_what_it_would_say_at_once(self) -> None:
        model = OfflineModel().bind_tools([current_time, search_tool(None)])
        inputs = [HumanMessage("What is the weather in SF?")]

        async def stream() -> Any:
            return [chunk async for chunk in model.astream(inputs)]

        whole = model.invoke(inputs)
        for chunks in (list(model.stream(inputs)), asyncio.run(stream())):
            total = chunks[0]
            for chunk in chunks[1:]:
                total += chunk
            assert total.text == whole.text
            assert total.tool_calls == whole.tool_calls
        assert len(list(model.stream([HumanMessage("hello")]))) > 5


class OpenAICompatible(http.server.BaseHTTPRequestHandler):
    """Speaks the wire protocol of a streaming chat completion."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for word in ("Hello ", "from ", "afar"):
            choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OpenAICompatible)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "some-key")
    yield
    server.shutdown()
    server.server_close()


class TestChatModel:
    def test_none_is_the_offline_one(self) -> None:
        assert isinstance(chat_model(None), OfflineModel)

    @pytest.mark.usefixtures("provider")
    def test_openai_compatible_server_streams(self) -> None:
        chunks = [str(chunk.text) for chunk in chat_model("openai:some-model").stream("hi") if chunk.text]
        assert chunks == ["Hello ", "from ", "afar"]

    @pytest.mark.parametrize("name", ["nobody:m", "openai:m", "nonsense"])
    def test_what_cannot_be_had_is_said(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(Misconfigured, match=f"AGENT_MODEL={name}"):
            chat_model(name)
