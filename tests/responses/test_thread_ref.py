from collections.abc import Callable
from typing import Any

import pytest
from conftest import say, text_of
from walking import user

from stateful_agent.errors import InvalidRequest, ThreadNotFound
from stateful_agent.responses.request import read_request
from stateful_agent.responses.thread_ref import ThreadRef, thread_ref_of


def ref(**fields: Any) -> ThreadRef | None:
    return thread_ref_of(read_request({"input": "hi"} | fields))


NAMED = ThreadRef("t", "c")


@pytest.mark.parametrize(
    "fields",
    [
        {"custom_inputs": {"thread_id": "t", "checkpoint_id": "c"}},
        {"metadata": {"thread_id": "t", "checkpoint_id": "c", "note": "mine"}},
        {"custom_inputs": {"thread_id": "t", "checkpoint_id": "c"}, "metadata": {"thread_id": "t"}},
        {"custom_inputs": {"checkpoint_id": "c"}, "metadata": {"thread_id": "t"}},
        {"custom_inputs": {"checkpoint_id": "c"}, "conversation": "t"},
        {"custom_inputs": {"checkpoint_id": "c"}, "conversation": {"id": "t"}},
        {"custom_inputs": {"checkpoint_id": "c"}, "context": {"conversation_id": "t"}},
        {"custom_inputs": {"thread_id": "t", "checkpoint_id": "c"}, "context": {"conversation_id": "other"}},
        # The `custom_outputs` of a response can be sent back as they are.
        {"custom_inputs": {"thread_id": "t", "checkpoint_id": "c", "parent_checkpoint_id": "p"}},
    ],
    ids=str,
)
def test_where_a_thread_and_a_checkpoint_are_named(fields: dict[str, Any]) -> None:
    assert ref(**fields) == NAMED


def test_a_response_names_its_checkpoint() -> None:
    named = ThreadRef(previous_response_id="r")
    assert ref(previous_response_id="r") == named
    assert ref(previous_response_id="r", context={"conversation_id": "c"}) == named


@pytest.mark.parametrize("fields", [{"custom_inputs": {"thread_id": "t"}}, {"metadata": {"thread_id": "t"}}])
def test_a_thread_id_may_begin_a_thread(fields: dict[str, Any]) -> None:
    assert ref(**fields) == ThreadRef("t", may_begin=True)
    assert ref(**fields, conversation="t") == ThreadRef("t")


@pytest.mark.parametrize(
    "fields",
    [
        {"custom_inputs": {"thread_id": "t"}, "metadata": {"thread_id": "other"}},
        {"custom_inputs": {"thread_id": "t"}, "conversation": "other"},
        {"metadata": {"thread_id": "t"}, "conversation": {"id": "other"}},
        {"custom_inputs": {"thread_id": "t", "checkpoint_id": "c"}, "metadata": {"checkpoint_id": "other"}},
        {"previous_response_id": "r", "conversation": "t"},
        {"previous_response_id": "r", "metadata": {"thread_id": "t"}},
        {"previous_response_id": "r", "custom_inputs": {"checkpoint_id": "c"}},
        {"previous_response_id": "r", "custom_inputs": {"previous_response_id": "other"}},
        {"conversation": ""},
        {"conversation": {}},
        {"conversation": {"id": 7}},
        {"metadata": {"thread_id": ""}},
        {"metadata": {"checkpoint_id": "c"}},
        {"custom_inputs": {"threadId": "t"}},
        {"custom_inputs": {"thread-id": "t"}},
        {"custom_inputs": {"thread_id": "t", "checkpoint": "c"}},
        {"custom_inputs": {"thread_id": "."}},
        {"custom_inputs": {"thread_id": ".."}},
        {"custom_inputs": {"thread_id": "a\nb"}},
        {"custom_inputs": {"thread_id": "a\x7fb"}},
    ],
    ids=str,
)
def test_none_is_guessed(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        ref(**fields)


class TestOnAThread:
    def ask(self, agent: Any, text: str, **fields: Any) -> Any:
        request = read_request({"input": [user(text)], **fields})
        return agent.loop.run(agent.apredict(request)).model_dump(exclude_none=True)

    @pytest.mark.parametrize("fields", [{"conversation": "t"}, {"metadata": {"thread_id": "t"}}])
    def test_it_goes_on(self, agent: Any, fields: dict[str, Any]) -> None:
        say(agent, "I'm headed to SF!", thread_id="t")
        assert "SF" in text_of(self.ask(agent, "Where am I going?", **fields))

    def test_metadata_forks(self, agent: Any) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        say(agent, "I'm headed to Oslo!", thread_id="t")
        assert "SF" in text_of(self.ask(agent, "Where am I going?", metadata=first))

    def test_a_conversation_that_does_not_exist_is_not_begun(self, agent: Any, rows: Callable[[], int]) -> None:
        with pytest.raises(ThreadNotFound):
            self.ask(agent, "hello", conversation="nowhere")
        assert rows() == 0
        assert agent.list_threads() == []
