"""What a response was given, and responses that are deleted, through OpenAI's own client."""

import json
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import openai
import pytest
from conftest import eventually, http
from listening_servers import served
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter
from scripted import Scripted

from stateful_agent.graph.build import build_graph

Make = Callable[..., Any]

IMAGE = {"type": "input_image", "image_url": "data:image/gif;base64,R0lGODlhAQABAAAAACw=", "detail": "low"}


@pytest.fixture
def url(make_agent: Make) -> Iterator[str]:
    with served(make_agent()) as url:
        yield url


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, input: Any, **fields: Any) -> Any:
    return client.responses.create(model="m", input=input, **fields)


def given(client: openai.OpenAI, response_id: str, **how: Any) -> list[Any]:
    found = list(client.responses.input_items.list(response_id, **({"order": "asc"} | how)))
    for item in found:
        as_sent = json.dumps(item.model_dump(mode="json", exclude_unset=True))
        TypeAdapter(ResponseItem).validate_json(as_sent, strict=True)
    return found


def texts(items: list[Any]) -> list[str]:
    return [item.content[0].text if item.type == "message" else item.type for item in items]


class TestInputItems:
    def test_are_those_of_the_turn(self, client: openai.OpenAI) -> None:
        first = ask(client, "I'm headed to SF!")
        second = ask(client, "Where am I going?", previous_response_id=first.id)
        assert texts(given(client, first.id)) == ["I'm headed to SF!"]
        assert texts(given(client, second.id)) == ["Where am I going?"]

    def test_in_pages_both_ways(self, client: openai.OpenAI) -> None:
        asked: Any = [{"role": "user", "content": str(n)} for n in range(5)]
        response = ask(client, asked)
        assert texts(given(client, response.id, limit=2)) == ["0", "1", "2", "3", "4"]
        assert texts(given(client, response.id, limit=2, order="desc")) == ["4", "3", "2", "1", "0"]

    def test_are_as_they_were_sent(self, client: openai.OpenAI) -> None:
        response = ask(client, [{"role": "user", "content": [{"type": "input_text", "text": "look"}, IMAGE]}])
        [item] = given(client, response.id)
        assert item.content[1].model_dump(exclude_none=True) == IMAGE

    def test_are_a_functions_output(self, client: openai.OpenAI) -> None:
        place = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
        tool: Any = {"type": "function", "name": "get_weather", "parameters": place, "strict": False}
        asked = ask(client, "What is the weather in SF?", tools=[tool])
        output = {"type": "function_call_output", "call_id": asked.output[-1].call_id, "output": "60°F"}
        answered = ask(client, [output], previous_response_id=asked.id)
        [item] = given(client, answered.id)
        assert (item.type, item.call_id, item.output) == ("function_call_output", output["call_id"], "60°F")

    def test_of_a_replay_are_none(self, client: openai.OpenAI, url: str) -> None:
        ref = {"custom_inputs": {"thread_id": "t"}}
        ask(client, "hello", extra_body=ref)
        history = http.get(f"{url}/threads/t/history").json()
        at = next(entry["checkpoint_id"] for entry in history if entry["next_nodes"] == ["model"])
        replayed = ask(client, [], extra_body={"custom_inputs": {"thread_id": "t", "checkpoint_id": at}})
        assert given(client, replayed.id) == []

    def test_of_an_edited_conversation_are_what_departs(self, client: openai.OpenAI) -> None:
        ref = {"custom_inputs": {"thread_id": "t"}}
        first = ask(client, "I'm headed to SF!", extra_body=ref)
        sent = [{"role": "user", "content": "I'm headed to SF!"}, {"role": "assistant", "content": first.output_text}]
        ask(client, [*sent, {"role": "user", "content": "one"}], extra_body=ref)
        edited = ask(client, [*sent, {"role": "user", "content": "two"}], extra_body=ref)
        assert texts(given(client, edited.id)) == ["two"]

    @pytest.mark.parametrize(("path", "status"), [("none/input_items", 404), ("{it}/input_items?limit=0", 400)])
    def test_that_are_not_there(self, client: openai.OpenAI, url: str, path: str, status: int) -> None:
        path = path.format(it=ask(client, "hello").id)
        assert http.get(f"{url}/v1/responses/{path}").status_code == status


class TestDeleting:
    def test_it_is_gone_and_its_turn_stays(self, client: openai.OpenAI, url: str) -> None:
        response = ask(client, "I'm headed to SF!", extra_body={"custom_inputs": {"thread_id": "t"}})
        before = http.get(f"{url}/threads/t/state").json()
        client.responses.delete(response.id)
        for gone in (
            lambda: client.responses.retrieve(response.id),
            lambda: client.responses.delete(response.id),
            lambda: client.responses.cancel(response.id),
            lambda: given(client, response.id),
            lambda: ask(client, "Where am I going?", previous_response_id=response.id),
        ):
            with pytest.raises(openai.NotFoundError):
                gone()
        assert http.get(f"{url}/threads/t/state").json() == before | {"response_id": None}
        assert "SF" in ask(client, "Where am I going?", extra_body={"custom_inputs": {"thread_id": "t"}}).output_text

    def test_what_is_answered(self, client: openai.OpenAI, url: str) -> None:
        response = ask(client, "hello")
        deleted = http.delete(f"{url}/v1/responses/{response.id}")
        assert deleted.json() == {"id": response.id, "object": "response", "deleted": True}

    def test_one_that_runs_elsewhere_ends(self, make_agent: Make) -> None:
        go_on = Event()
        graph = build_graph(Scripted("one", go_on.is_set, "two"), [])
        with served(make_agent(graph)) as here, served(make_agent(graph)) as there:
            mine, other = (openai.OpenAI(base_url=url, api_key="none", max_retries=0) for url in (here, there))
            running = ask(mine, "go", background=True)
            eventually(lambda: mine.responses.retrieve(running.id).status == "in_progress")
            other.responses.delete(running.id)
            with pytest.raises(openai.NotFoundError):
                mine.responses.retrieve(running.id)
            go_on.set()
            thread_id = running.metadata["thread_id"]
            assert ask(mine, "again", conversation=thread_id).output_text == "one two "
            messages = http.get(f"{here}/threads/{thread_id}/state").json()["messages"]
            assert [item["content"][0]["text"] for item in messages] == ["go", "again", "one two "]


def test_belong_to_their_user(make_agent: Make) -> None:
    with served(make_agent(trusted_identity="X-User")) as url:
        mine, theirs = (
            openai.OpenAI(base_url=url, api_key="none", max_retries=0, default_headers={"X-User": name})
            for name in ("me", "them")
        )
        response = ask(mine, "hello")
        with pytest.raises(openai.NotFoundError):
            theirs.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError):
            given(theirs, response.id)
        assert texts(given(mine, response.id)) == ["hello"]
