"""Approvals over HTTP, with the OpenAI client, from any server on the database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import openai
import pytest
from conftest import eventually, http
from listening_servers import served
from paying import approval, per_call, runs

Make = Callable[..., Any]


@pytest.fixture
def clients(make_agent: Make) -> Iterator[list[openai.OpenAI]]:
    """Clients of two servers on one database."""
    runs.clear()
    with ExitStack() as servers:
        urls = [servers.enter_context(served(make_agent(per_call()))) for _ in range(2)]
        yield [openai.OpenAI(base_url=url, api_key="none", max_retries=0) for url in urls]


def request_id(response: Any) -> str:
    [item] = [item for item in response.output if item.type == "mcp_approval_request"]
    assert (item.name, item.arguments, item.server_label) == ("pay", '{"amount": 5}', response.model)
    return str(item.id)


def ended(client: openai.OpenAI, response: Any) -> Any:
    eventually(lambda: client.responses.retrieve(response.id).status not in ("queued", "in_progress"))
    return client.responses.retrieve(response.id)


def approve(response: Any, approves: bool = True) -> Any:
    return [approval(request_id(response), approves)]


@pytest.mark.parametrize("by", ["previous_response_id", "conversation", "thread_id"])
def test_another_server_takes_the_answer(clients: list[openai.OpenAI], by: str) -> None:
    here, there = clients
    asked = here.responses.create(model="m", input="Pay!", extra_body={"custom_inputs": {"thread_id": "t"}})
    refs: dict[str, Any] = {
        "previous_response_id": {"previous_response_id": asked.id},
        "conversation": {"conversation": "t"},
        "thread_id": {"extra_body": {"custom_inputs": {"thread_id": "t"}}},
    }
    answer = there.responses.create(model="m", input=approve(asked), **refs[by])
    assert answer.output_text == "found it | paid 5"
    assert sorted(runs) == ["look up it", "pay 5"]


def test_a_stream_asks_and_a_stream_answers(clients: list[openai.OpenAI]) -> None:
    here, there = clients
    with here.responses.stream(model="m", input="Pay!") as stream:
        asked = stream.get_final_response()
    with there.responses.stream(model="m", input=approve(asked), previous_response_id=asked.id) as stream:
        assert stream.get_final_response().output_text == "found it | paid 5"


def test_in_the_background(clients: list[openai.OpenAI]) -> None:
    here, there = clients
    asked = ended(there, here.responses.create(model="m", input="Pay!", background=True))
    assert asked.status == "completed"
    answer = there.responses.create(model="m", input=approve(asked), previous_response_id=asked.id, background=True)
    assert ended(here, answer).output_text == "found it | paid 5"


def test_the_same_answer_twice_resumes_once(clients: list[openai.OpenAI]) -> None:
    here, there = clients
    asked = here.responses.create(model="m", input="Pay!", extra_body={"custom_inputs": {"thread_id": "t"}})
    answers = [
        client.responses.create(
            model="m",
            input=approve(asked),
            extra_headers={"Idempotency-Key": "one"},
            extra_body={"custom_inputs": {"thread_id": "t"}},
        )
        for client in (here, there)
    ]
    assert answers[0].id == answers[1].id
    assert runs.count("pay 5") == 1
    with pytest.raises(openai.BadRequestError, match="Nothing waits"):
        there.responses.create(model="m", input=approve(asked), extra_body={"custom_inputs": {"thread_id": "t"}})


def test_a_second_answer_to_the_response_is_a_second_branch(clients: list[openai.OpenAI]) -> None:
    here, there = clients
    asked = here.responses.create(model="m", input="Pay!")
    here.responses.create(model="m", input=approve(asked), previous_response_id=asked.id)
    rejected = there.responses.create(model="m", input=approve(asked, False), previous_response_id=asked.id)
    assert "rejected" in rejected.output_text
    thread_id = cast(Any, asked).custom_outputs["thread_id"]
    assert len(http.get(there.base_url.join(f"threads/{thread_id}/branches")).json()) == 2
    assert runs.count("pay 5") == 1
