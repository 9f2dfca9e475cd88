"""Conversations as OpenAI's own client has them: each is a thread."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from conftest import http
from listening_servers import served
from open_responses import check_items
from openai.types.conversations import Conversation, ConversationDeletedResource
from pydantic import BaseModel

Make = Callable[..., Any]

TRIP: Any = [{"role": "user", "content": "I'm headed to SF!"}, {"role": "assistant", "content": "Have a nice trip."}]
CALL: Any = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"place": "SF"}'}
OUTPUT: Any = {"type": "function_call_output", "call_id": "c", "output": "60°F"}


@pytest.fixture
def url(make_agent: Make) -> Iterator[str]:
    with served(make_agent()) as url:
        yield url


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def checked(answer: BaseModel, kind: type[BaseModel]) -> Any:
    """An answer that is what OpenAI's types say, strictly."""
    kind.model_validate_json(json.dumps(answer.model_dump(mode="json", exclude_unset=True)), strict=True)
    return answer


def items(client: openai.OpenAI, conversation: str, **how: Any) -> list[Any]:
    """All items, oldest first, through as many pages as it takes."""
    found = list(client.conversations.items.list(conversation, **({"order": "asc"} | how)))
    check_items([item.model_dump(mode="json", exclude_unset=True) for item in found])
    return found


def texts(client: openai.OpenAI, conversation: str) -> list[str]:
    return [item.content[0].text if item.type == "message" else item.type for item in items(client, conversation)]


class TestAConversation:
    def test_begins_empty(self, client: openai.OpenAI) -> None:
        made = checked(client.conversations.create(), Conversation)
        assert (made.id[:5], made.metadata, items(client, made.id)) == ("conv_", {}, [])

    def test_begins_with_items(self, client: openai.OpenAI) -> None:
        made = client.conversations.create(items=TRIP)
        assert texts(client, made.id) == ["I'm headed to SF!", "Have a nice trip."]
        answer = client.responses.create(model="m", input="Where am I going?", conversation=made.id)
        assert "SF" in answer.output_text
        assert answer.conversation
        assert answer.conversation.id == made.id

    def test_is_a_thread(self, client: openai.OpenAI, url: str) -> None:
        made = client.conversations.create()
        client.responses.create(model="m", input="I'm headed to SF!", conversation=made.id)
        history = http.get(f"{url}/threads/{made.id}/history").json()
        assert [entry["source"] for entry in history] == ["loop", "loop", "input", "update"]
        assert [thread["thread_id"] for thread in http.get(f"{url}/threads").json()] == [made.id]

    def test_without_a_question_there_is_nothing_to_answer(self, client: openai.OpenAI) -> None:
        made = client.conversations.create()
        with pytest.raises(openai.BadRequestError, match="nothing is pending"):
            client.responses.create(model="m", input=[], conversation=made.id)

    def test_a_question_in_it_is_answered_by_a_turn_without_input(self, client: openai.OpenAI) -> None:
        made = client.conversations.create(items=[*TRIP, {"role": "user", "content": "Where am I going?"}])
        assert "SF" in client.responses.create(model="m", input=[], conversation=made.id).output_text

    def test_has_metadata(self, client: openai.OpenAI) -> None:
        made = client.conversations.create(metadata={"topic": "trip"})
        assert checked(client.conversations.retrieve(made.id), Conversation).metadata == {"topic": "trip"}
        updated = checked(client.conversations.update(made.id, metadata={"title": "SF"}), Conversation)
        assert (updated.metadata, updated.created_at) == ({"title": "SF"}, made.created_at)
        assert client.conversations.retrieve(made.id).metadata == {"title": "SF"}

    def test_is_deleted(self, client: openai.OpenAI) -> None:
        made = client.conversations.create(items=TRIP)
        gone = checked(client.conversations.delete(made.id), ConversationDeletedResource)
        assert (gone.id, gone.deleted) == (made.id, True)
        for ask in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="m", input="hello", conversation=made.id)


class TestItems:
    def test_are_added_at_the_head(self, client: openai.OpenAI) -> None:
        made = client.conversations.create(items=TRIP)
        added = client.conversations.items.create(
            made.id, items=[{"role": "user", "content": "Where to?"}, CALL, OUTPUT]
        )
        assert [item.type for item in added.data] == ["message", "function_call", "function_call_output"]
        assert (added.first_id, added.last_id, added.has_more) == (added.data[0].id, added.data[-1].id, False)
        kinds = [item.type for item in items(client, made.id)]
        assert kinds == ["message", "message", "message", "function_call", "function_call_output"]

    def test_are_new_whatever_ids_they_had(self, client: openai.OpenAI) -> None:
        made = client.conversations.create(items=TRIP)
        again = [item.model_dump(mode="json", exclude_unset=True) for item in items(client, made.id)]
        client.conversations.items.create(made.id, items=again)
        assert texts(client, made.id) == ["I'm headed to SF!", "Have a nice trip."] * 2

    def test_that_are_not_kept_are_left_out(self, client: openai.OpenAI) -> None:
        made = client.conversations.create()
        reasoning: Any = {"type": "reasoning", "id": "rs_1", "summary": []}
        assert client.conversations.items.create(made.id, items=[reasoning]).data == []
        added = client.conversations.items.create(made.id, items=[reasoning, *TRIP])
        assert [item.type for item in added.data] == ["message", "message"]

    def test_are_listed_in_pages_both_ways(self, client: openai.OpenAI) -> None:
        asked: Any = [{"role": role, "content": str(n)} for n in range(5) for role in ("user", "assistant")]
        made = client.conversations.create(items=asked)
        for order, expected in (("asc", "0011223344"), ("desc", "4433221100")):
            found = items(client, made.id, order=order, limit=3)
            assert "".join(item.content[0].text for item in found) == expected
        page: Any = client.conversations.items.list(made.id, limit=2)
        assert ("".join(item.content[0].text for item in page.data), page.has_more) == ("44", True)

    def test_one_is_retrieved(self, client: openai.OpenAI) -> None:
        made = client.conversations.create(items=TRIP)
        for item in items(client, made.id):
            assert client.conversations.items.retrieve(item.id, conversation_id=made.id) == item

    def test_one_is_deleted_and_stays_in_the_past(self, client: openai.OpenAI, url: str) -> None:
        made = client.conversations.create(items=TRIP)
        first = items(client, made.id)[0]
        assert checked(client.conversations.items.delete(first.id, conversation_id=made.id), Conversation).id == made.id
        assert texts(client, made.id) == ["Have a nice trip."]
        before = http.get(f"{url}/threads/{made.id}/history").json()[-1]
        state = http.get(f"{url}/threads/{made.id}/state/{before['checkpoint_id']}").json()
        assert len(state["messages"]) == 2

    @pytest.mark.parametrize("deleted", ["function_call", "function_call_output"])
    def test_a_call_and_its_output_go_together(self, client: openai.OpenAI, deleted: str) -> None:
        made = client.conversations.create(items=[*TRIP, {"role": "user", "content": "Warm?"}, CALL, OUTPUT])
        one = next(item for item in items(client, made.id) if item.type == deleted)
        client.conversations.items.delete(one.id, conversation_id=made.id)
        assert texts(client, made.id) == ["I'm headed to SF!", "Have a nice trip.", "Warm?"]

    def test_one_of_two_calls(self, client: openai.OpenAI) -> None:
        calls: Any = [CALL, CALL | {"call_id": "d"}, OUTPUT, OUTPUT | {"call_id": "d"}]
        made = client.conversations.create(items=[{"role": "user", "content": "Warm?"}, *calls])
        first = next(item for item in items(client, made.id) if item.type == "function_call")
        client.conversations.items.delete(first.id, conversation_id=made.id)
        assert texts(client, made.id) == ["Warm?", "function_call", "function_call_output"]
        assert items(client, made.id)[-1].call_id == "d"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "conversations/none", None, 404, "thread_not_found"),
        ("POST", "conversations/none", {"metadata": {}}, 404, "thread_not_found"),
        ("POST", "conversations/none/items", {"items": TRIP}, 404, "thread_not_found"),
        ("DELETE", "conversations/none/items/x", None, 404, "thread_not_found"),
        ("GET", "conversations/{it}/items/none", None, 404, "item_not_found"),
        ("DELETE", "conversations/{it}/items/none", None, 404, "item_not_found"),
        ("GET", "conversations/{it}/items?after=none", None, 404, "item_not_found"),
        ("GET", "conversations/{it}/items?limit=0", None, 400, "invalid_request"),
        ("GET", "conversations/{it}/items?order=up", None, 400, "invalid_request"),
        ("POST", "conversations", {"items": TRIP * 11}, 400, "invalid_request"),
        ("POST", "conversations", {"items": [OUTPUT]}, 400, "invalid_request"),
        ("POST", "conversations", {"items": [{"type": "web_search_call"}]}, 400, "invalid_request"),
        ("POST", "conversations", {"metadata": {"n": 1}}, 400, "invalid_request"),
        ("POST", "conversations", {"metadata": {"long": "x" * 513}}, 400, "invalid_request"),
        ("POST", "conversations/{it}", {}, 400, "invalid_request"),
        ("POST", "conversations/{it}/items", {"items": [OUTPUT]}, 400, "invalid_request"),
    ],
)
def test_what_is_refused_changes_nothing(
    client: openai.OpenAI, url: str, method: str, path: str, body: Any, status: int, code: str
) -> None:
    made = client.conversations.create(items=TRIP, metadata={"a": "b"})
    refused = http.request(method, f"{url}/v1/{path.format(it=made.id)}", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert texts(client, made.id) == ["I'm headed to SF!", "Have a nice trip."]
    assert client.conversations.retrieve(made.id).metadata == {"a": "b"}
    assert len(http.get(f"{url}/threads").json()) == 1


def test_belongs_to_its_user(make_agent: Make) -> None:
    with served(make_agent(trusted_identity="X-User")) as url:
        mine, theirs = (
            openai.OpenAI(base_url=url, api_key="none", max_retries=0, default_headers={"X-User": name})
            for name in ("me", "them")
        )
        made = mine.conversations.create(items=TRIP, metadata={"a": "b"})
        for ask in (theirs.conversations.retrieve, theirs.conversations.delete, theirs.conversations.items.list):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)
        with pytest.raises(openai.NotFoundError):
            theirs.conversations.update(made.id, metadata={"a": "c"})
        with pytest.raises(openai.NotFoundError):
            theirs.conversations.items.delete(items(mine, made.id)[0].id, conversation_id=made.id)
        assert mine.conversations.retrieve(made.id).metadata == {"a": "b"}
        assert len(items(mine, made.id)) == 2
