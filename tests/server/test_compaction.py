"""A conversation made shorter, through OpenAI's own client: a checkpoint too, so the past stays in the tree."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from conftest import http
from langgraph.graph import START, MessagesState, StateGraph
from listening_servers import served
from open_responses import check_compaction
from scripted import Scripted

from stateful_agent.graph.build import build_graph
from stateful_agent.responses.compaction import HEADING, QUESTION

Make = Callable[..., Any]


@pytest.fixture
def url(make_agent: Make) -> Iterator[str]:
    with served(make_agent()) as url:
        yield url


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, input: Any, **fields: Any) -> Any:
    return client.responses.create(model="m", input=input, **fields)


def compact(client: openai.OpenAI, **fields: Any) -> Any:
    answer = client.responses.compact(model="m", **fields)
    check_compaction(json.loads(answer.model_dump_json(exclude_unset=True)))
    return answer


def sent_back(answer: Any) -> Any:
    return [item.model_dump(mode="json", exclude_unset=True) for item in answer.output]


def texts(url: str, path: str) -> list[str]:
    messages = http.get(f"{url}/threads/{path}").json()["messages"]
    return [item["content"][0]["text"] if item["type"] == "message" else item["type"] for item in messages]


@pytest.fixture
def talked(client: openai.OpenAI) -> Any:
    """The last response of a conversation with a tool call."""
    first = ask(client, "I'm headed to SF!", extra_body={"custom_inputs": {"thread_id": "t"}})
    return ask(client, "What is the weather in SF?", previous_response_id=first.id)


class TestAThread:
    def test_keeps_what_the_user_said_and_a_summary(self, client: openai.OpenAI, url: str, talked: Any) -> None:
        answer = compact(client, previous_response_id=talked.id)
        assert [item.type for item in answer.output] == ["message", "message", "compaction"]
        kept = texts(url, "t/state")
        assert kept[:2] == ["I'm headed to SF!", "What is the weather in SF?"]
        assert kept[2].startswith(HEADING)
        assert "61°F" in kept[2]
        assert len(kept) == 3

    def test_the_whole_stays_in_the_tree(self, client: openai.OpenAI, url: str, talked: Any) -> None:
        whole = texts(url, "t/state")
        before = http.get(f"{url}/threads/t/state").json()["checkpoint_id"]
        answer = compact(client, previous_response_id=talked.id)
        assert answer.custom_outputs["parent_checkpoint_id"] == before
        assert texts(url, f"t/state/{before}") == whole
        old = ask(client, "Where am I going?", previous_response_id=talked.id)
        assert len(texts(url, "t/state")) == len(whole) + 2
        assert "SF" in old.output_text

    def test_goes_on_from_it(self, client: openai.OpenAI, url: str, talked: Any) -> None:
        answer = compact(client, previous_response_id=talked.id)
        assert http.get(f"{url}/threads/t/state").json()["next_nodes"] == []
        for ref in ({"previous_response_id": answer.id}, {"conversation": "t"}):
            assert "SF" in ask(client, "Where am I going?", **ref).output_text

    @pytest.mark.parametrize("way", ["conversation", "custom_inputs", "operation"])
    def test_is_named_in_any_way(self, client: openai.OpenAI, url: str, talked: Any, way: str) -> None:
        ref = {"custom_inputs": {"thread_id": "t"} | ({"operation": "compact_thread"} if way == "operation" else {})}
        if way == "operation":
            assert ask(client, [], extra_body=ref).custom_outputs["result"]["next_nodes"] == []
        else:
            compact(client, extra_body={"conversation": "t"} if way == "conversation" else ref)
        assert len(texts(url, "t/state")) == 3

    def test_twice(self, client: openai.OpenAI, url: str, talked: Any) -> None:
        first = compact(client, previous_response_id=talked.id)
        compact(client, previous_response_id=first.id)
        assert len(texts(url, "t/state")) == 3

    def test_with_more_input(self, client: openai.OpenAI, url: str, talked: Any) -> None:
        compact(client, previous_response_id=talked.id, input="I like the sun.")
        assert texts(url, "t/state")[2] == "I like the sun."


class TestInput:
    def test_alone_is_answered_and_nothing_is_stored(self, client: openai.OpenAI, url: str) -> None:
        talk: Any = [{"role": "user", "content": "I'm headed to SF!"}, {"role": "assistant", "content": "Have fun."}]
        answer = compact(client, input=talk)
        assert http.get(f"{url}/threads").json() == []
        again = ask(client, [*sent_back(answer), {"role": "user", "content": "Where am I going?"}])
        assert "SF" in again.output_text

    def test_what_came_out_is_what_the_model_reads(self, make_agent: Make) -> None:
        model = Scripted("noted", received=[])
        with served(make_agent(build_graph(model, [], "Be brief."))) as url:
            client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
            talk: Any = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
            answer = compact(client, input=talk, instructions="In French.")
            ask(client, [*sent_back(answer), {"role": "user", "content": "three"}])
        asked, then = model.received
        assert [message.text for message in asked] == ["Be brief.\n\nIn French.", "one", "two", QUESTION]
        assert [message.text for message in then] == ["Be brief.", "one", f"{HEADING}noted", "three"]


class TestIsRefused:
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"input": "hello"}, 400),
            ({}, 400),
            ({"previous_response_id": "none"}, 404),
            ({"conversation": "none"}, 404),
            ({"custom_inputs": {"thread_id": "t"}, "input": 5}, 400),
            ({"custom_inputs": {"thread_id": "t", "checkpoint_id": "none"}}, 404),
        ],
        ids=str,
    )
    def test_what_cannot_be(self, url: str, client: openai.OpenAI, talked: Any, body: Any, status: int) -> None:
        before = http.get(f"{url}/threads/t/history").json()
        refused = http.post(f"{url}/v1/responses/compact", json=body)
        assert (refused.status_code, set(refused.json())) == (status, {"error"})
        assert http.get(f"{url}/threads/t/history").json() == before

    def test_amid_a_turn(self, url: str, client: openai.OpenAI) -> None:
        tool: Any = {"type": "function", "name": "get_weather", "parameters": None, "strict": False}
        asked = ask(client, "What is the weather in SF?", tools=[tool], tool_choice="required")
        with pytest.raises(openai.BadRequestError, match="not complete"):
            compact(client, previous_response_id=asked.id)

    @pytest.mark.parametrize("content", ["no base64", "bm8gc3VtbWFyeQ=="])
    def test_a_compaction_of_another_servers(self, url: str, content: str) -> None:
        item = {"type": "compaction", "encrypted_content": content}
        refused = http.post(f"{url}/v1/responses", json={"input": [item, {"role": "user", "content": "hi"}]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[0].encrypted_content")

    def test_by_a_graph_that_cannot_be_told(self, make_agent: Make) -> None:
        def answer(state: MessagesState) -> dict[str, Any]:
            return {"messages": [("assistant", "ho")]}

        graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")
        with served(make_agent(graph)) as url:
            http.post(f"{url}/responses", json={"input": "hi", "custom_inputs": {"thread_id": "t"}})
            refused = http.post(f"{url}/v1/responses/compact", json={"conversation": "t"})
        assert refused.status_code == 400
        assert "ModelSettings" in refused.json()["error"]["message"]

    def test_half_a_summary_changes_nothing(self, make_agent: Make) -> None:
        class Silent(Scripted):
            async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
                async for chunk in super()._astream(messages):
                    chunk.message.content = "" if messages[-1].text == QUESTION else chunk.message.content
                    yield chunk

        with served(make_agent(build_graph(Silent(words=("hello",)), []))) as url:
            http.post(f"{url}/responses", json={"input": "hi", "custom_inputs": {"thread_id": "t"}})
            before = http.get(f"{url}/threads/t/history").json()
            refused = http.post(f"{url}/v1/responses/compact", json={"conversation": "t"})
            assert refused.status_code >= 500
            assert http.get(f"{url}/threads/t/history").json() == before


def test_another_users_thread_is_not_there(make_agent: Make) -> None:
    with served(make_agent(trusted_identity="X-User")) as url:
        body = {"input": "hello", "custom_inputs": {"thread_id": "t"}}
        response = http.post(f"{url}/responses", json=body, headers={"X-User": "me"}).json()
        for ref in ({"conversation": "t"}, {"previous_response_id": response["id"]}):
            refused = http.post(f"{url}/responses/compact", json=ref, headers={"X-User": "them"})
            assert refused.status_code == 404
        assert http.post(f"{url}/responses/compact", json={"conversation": "t"}).status_code == 401
