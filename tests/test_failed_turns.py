"""A turn that fails does not poison its thread, and half of an answer is not told as a whole one."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import mlflow
import openai
import pytest
from conftest import say, text_of
from databricks_langchain import ChatDatabricks
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from listening_servers import served
from model_apis import ModelApi, Reply
from openai_apis import ChatCompletions
from pydantic import SecretStr
from scripted import Scripted
from walking import assistant, texts, user
from well_formed import kinds, well_formed

from stateful_agent.errors import AgentError, InvalidRequest, ModelFailed, ModelRefused
from stateful_agent.graph import build_graph

Make = Callable[..., Any]


class ProviderError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__("no")
        self.status_code = status_code


class Picky(Scripted):
    """A model that answers with what it was asked, unless something asked for is to fail with a status."""

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        asked = [str(message.text) for message in messages if isinstance(message, HumanMessage)]
        self.received.append(asked)
        for text in asked:
            if text in self.failure:
                raise ProviderError(self.failure[text])
        yield ChatGenerationChunk(message=AIMessageChunk(content=" / ".join(asked)))


@pytest.fixture
def model() -> Picky:
    return Picky(failure={"too long": 400, "busy": 429}, received=[])


@pytest.fixture
def agent(make_agent: Make, model: Picky) -> Any:
    return make_agent(build_graph(model, []))


class TestRefusedQuestions:
    def test_it_is_a_request_that_cannot_be_taken(self, agent: Any) -> None:
        with pytest.raises(ModelRefused, match="The model provider answered: no") as caught:
            say(agent, "too long", thread_id="t")
        assert (caught.value.status, caught.value.code) == (400, "model_refused")

    @pytest.mark.parametrize("earlier", [[], ["hello"]], ids=["first", "later"])
    def test_the_next_question_leaves_it_behind(self, agent: Any, earlier: list[str]) -> None:
        for text in earlier:
            say(agent, text, thread_id="t")
        with pytest.raises(ModelRefused):
            say(agent, "too long", thread_id="t")
        left = agent.get_checkpoint_state("t")["checkpoint_id"]
        assert text_of(say(agent, "short", thread_id="t")) == " / ".join([*earlier, "short"])
        assert texts(agent, left)[-1] == "too long"
        assert len(agent.list_branches("t")) == 2

    def test_naming_it_goes_on_from_it(self, agent: Any) -> None:
        with pytest.raises(ModelRefused):
            say(agent, "too long", thread_id="t")
        left = agent.get_checkpoint_state("t")["checkpoint_id"]
        with pytest.raises(ModelRefused):
            say(agent, "short", thread_id="t", checkpoint_id=left)


class TestFailedQuestions:
    def test_sent_again_it_is_asked_once(self, agent: Any, model: Picky) -> None:
        with pytest.raises(AgentError):
            say(agent, "busy", thread_id="t")
        model.failure.clear()
        assert text_of(say(agent, "busy", thread_id="t")) == "busy"
        assert texts(agent) == ["busy", "busy"]

    def test_another_follows_it(self, agent: Any, model: Picky) -> None:
        with pytest.raises(AgentError):
            say(agent, "busy", thread_id="t")
        model.failure.clear()
        assert text_of(say(agent, "and?", thread_id="t")) == "busy / and?"

    @pytest.mark.usefixtures("traced")
    def test_its_trace_names_the_checkpoint_to_go_on_from(self, agent: Any) -> None:
        with pytest.raises(AgentError):
            say(agent, "busy", thread_id="t")
        mlflow.flush_trace_async_logging()
        trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
        assert trace
        assert trace.info.status == "ERROR"
        assert trace.info.tags["checkpoint_id"] == agent.get_checkpoint_state("t")["checkpoint_id"]

    def test_answered_it_is_asked_again(self, agent: Any) -> None:
        say(agent, "hello", thread_id="t")
        assert text_of(say(agent, "hello", thread_id="t")) == "hello / hello"

    def test_a_providers_own_failure_is_none_of_the_request(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(Picky(failure={"hi": 500}, received=[]), []))
        with pytest.raises(ModelFailed):
            say(agent, "hi", thread_id="t")


@tool
async def search(query: str) -> str:
    """Search."""
    searched.append(query)
    return f"found {query}"


searched: list[str] = []


class Breaking(Scripted):
    """A model whose first call has these arguments, and that then says what it got."""

    arguments: str

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        results = [message for message in messages if isinstance(message, ToolMessage)]
        if not results:
            for n in range(0, len(self.arguments), 5):
                chunk = tool_call_chunk(
                    name=None if n else "search", args=self.arguments[n : n + 5], id=None if n else "c", index=0
                )
                yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))
        else:
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{results[-1].status}: {results[-1].text}"))


class TestBrokenCalls:
    @pytest.mark.parametrize("arguments", ['{"query" "weather"}', '{"query": "we', "[1]", "nonsense"])
    def test_it_never_runs_and_the_model_is_asked_again(self, make_agent: Make, arguments: str) -> None:
        searched.clear()
        agent = make_agent(build_graph(Breaking(arguments=arguments), [search]))
        request = {"input": [user("go")], "custom_inputs": {"thread_id": "t"}}
        events = [event.model_dump() for event in agent.predict_stream(request)]
        well_formed(events)
        call, result, answer = events[-1]["response"]["output"]
        assert (call["type"], call["status"], call["arguments"]) == ("function_call", "incomplete", arguments)
        assert (result["type"], result["status"]) == ("function_call_output", "incomplete")
        assert "was not made" in answer["content"][0]["text"]
        assert searched == []

    def test_a_whole_one_runs(self, make_agent: Make) -> None:
        searched.clear()
        agent = make_agent(build_graph(Breaking(arguments=json.dumps({"query": "weather"})), [search]))
        assert text_of(say(agent, "go")) == "success: found weather"

    def test_in_a_graph_of_ones_own_it_is_told_and_closed(self, make_agent: Make) -> None:
        model = Breaking(arguments='{"query" "weather"}')

        async def ask(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("ask", ask)
        graph.add_edge(START, "ask")
        agent = make_agent(graph)
        [call] = say(agent, "go", thread_id="t")["output"]
        assert (call["type"], call["status"]) == ("function_call", "incomplete")
        assert "did not finish" in text_of(say(agent, "go on", thread_id="t"))

    def test_a_client_may_send_it_again(self, agent: Any) -> None:
        broken = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{", "status": "incomplete"}
        result = {"type": "function_call_output", "call_id": "c", "output": "not made"}
        sent = [user("one"), broken, result, assistant("done"), user("two")]
        response = agent.predict({"input": sent, "custom_inputs": {"thread_id": "t"}}).model_dump(exclude_none=True)
        assert text_of(response) == "one / two"


class Ending(Scripted):
    """A model that says why it ended."""

    metadata: dict[str, Any]

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content="half an"))
        yield ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=self.metadata))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"finish_reason": "length"}, "max_output_tokens"),
        ({"stop_reason": "max_tokens"}, "max_output_tokens"),
        ({"stopReason": "max_tokens"}, "max_output_tokens"),
        ({"finish_reason": "MAX_TOKENS"}, "max_output_tokens"),
        ({"done_reason": "length"}, "max_output_tokens"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "max_output_tokens"),
        ({"finish_reason": "content_filter"}, "content_filter"),
        ({"stop_reason": "refusal"}, "content_filter"),
        ({"finish_reason": "stop"}, None),
        ({"stop_reason": "end_turn"}, None),
    ],
    ids=str,
)
def test_half_an_answer_is_incomplete(make_agent: Make, metadata: Any, reason: str | None) -> None:
    agent = make_agent(build_graph(Ending(metadata=metadata), []))
    events = [event.model_dump() for event in agent.predict_stream({"input": [user("go")]})]
    status = "incomplete" if reason else "completed"
    assert kinds(events)[-1] == status
    response = events[-1]["response"]
    assert (response["status"], response["incomplete_details"]) == (status, reason and {"reason": reason})
    assert response["custom_outputs"]["checkpoint_id"]


def test_a_client_reads_that_it_is_incomplete(make_agent: Make) -> None:
    with served(make_agent(build_graph(Ending(metadata={"finish_reason": "length"}), []))) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        response = client.responses.create(model="m", input="go")
        assert response.status == "incomplete"
        assert response.incomplete_details
        assert response.incomplete_details.reason == "max_output_tokens"
        assert client.responses.retrieve(response.id).status == "incomplete"


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ([{"type": "input_text", "text": ""}], False),
        ([{"type": "input_text", "text": " \n"}], False),
        ("  ", False),
        (
            [{"type": "input_text", "text": ""}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}],
            True,
        ),
        ([{"type": "input_file", "file_url": "https://example.org/a.pdf"}], True),
    ],
)
def test_a_blank_message_is_refused(make_agent: Make, content: Any, taken: bool) -> None:
    agent = make_agent(build_graph(Scripted("yes"), []))
    request = {"input": [{"role": "user", "content": content}], "custom_inputs": {"thread_id": "t"}}
    if taken:
        agent.predict(request)
        [shown, _] = agent.get_checkpoint_state("t")["messages"]
        assert shown["content"][-1] == content[-1]
    else:
        with pytest.raises(InvalidRequest, match="blank"):
            agent.predict(request)


def a_model_of(provider: str, api: ModelApi, monkeypatch: pytest.MonkeyPatch) -> BaseChatModel:
    if provider == "openai":
        return ChatOpenAI(model="m", api_key=SecretStr("none"), base_url=f"{api.url}/v1")
    monkeypatch.setenv("DATABRICKS_HOST", api.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", "none")
    return ChatDatabricks(endpoint="m")


def graph_of_one_step(model: BaseChatModel) -> Any:
    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")


@pytest.mark.parametrize("provider", ["openai", "databricks"])
class TestAStreamThatEndsWithoutItsEnd:
    """A provider or a proxy hangs up amid an answer, in a way that looks like its end."""

    @pytest.mark.parametrize("is_own", [False, True], ids=["the built-in graph", "a graph of one's own"])
    def test_is_a_failure_and_not_in_the_thread(
        self, make_agent: Make, monkeypatch: pytest.MonkeyPatch, provider: str, is_own: bool
    ) -> None:
        with ChatCompletions(Reply(("half an answer",), breaks_off=True)) as api:
            model = a_model_of(provider, api, monkeypatch)
            agent = make_agent(graph_of_one_step(model) if is_own else build_graph(model, []))
            request = {"input": [user("go")], "custom_inputs": {"thread_id": "t"}}
            events = [event.model_dump() for event in agent.predict_stream(request)]
        assert "half an answer" in "".join(event.get("delta", "") for event in events)
        assert (events[-1]["type"], events[-1]["error"]["code"]) == ("error", "model_failed")
        assert [item["role"] for item in agent.get_checkpoint_state("t")["messages"]] == ["user"]

    def test_and_a_whole_one_is_none(self, make_agent: Make, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
        with ChatCompletions(Reply()) as api:
            agent = make_agent(build_graph(a_model_of(provider, api, monkeypatch), []))
            response = agent.predict({"input": [user("go")]}).model_dump(exclude_none=True)
        assert text_of(response) == "an answer"
