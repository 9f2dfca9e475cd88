from collections.abc import Callable
from typing import Any

import pytest
from conftest import say, text_of
from walking import Branches, assistant, said, user

from stateful_agent.errors import CheckpointNotFound, InvalidRequest

Make = Callable[..., Any]


class TestPreviousResponse:
    def test_leads_back_to_its_thread_and_checkpoint(self, agent: Any) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")
        say(agent, "I'm headed to Oslo!", thread_id="t")
        agent.copy_thread("t")
        answer = say(agent, "Where am I going?", previous_response_id=first["id"])
        assert answer["custom_outputs"]["thread_id"] == "t"
        assert answer["custom_outputs"]["parent_checkpoint_id"] == first["custom_outputs"]["checkpoint_id"]
        assert "SF" in text_of(answer)
        assert "Oslo" not in text_of(answer)

    def test_unknown_or_ambiguous(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        with pytest.raises(CheckpointNotFound):
            say(agent, "hello", previous_response_id="resp_unknown")
        with pytest.raises(InvalidRequest):
            say(agent, "hello", previous_response_id=first["id"], thread_id="t")
        with pytest.raises(InvalidRequest):
            say(agent, "hello", previous_response_id=7)


class TestResentConversation:
    def resend(self, agent: Any, *items: dict[str, Any], **custom_inputs: Any) -> dict[str, Any]:
        request = {"input": list(items), "custom_inputs": {"thread_id": "t", **custom_inputs}}
        return dict(agent.predict(request).model_dump(exclude_none=True))

    def test_only_what_is_new_is_added(self, agent: Any) -> None:
        conversation: list[dict[str, Any]] = []
        for text in ("I'm headed to SF!", "Weather in SF and LA?", "Where am I going?"):
            conversation.append(user(text))
            answer = self.resend(agent, *conversation)
            conversation.append(assistant(text_of(answer)))
            spoken = [text for text in said(agent) if not text.startswith("function_call")]
            assert spoken == [m["content"] if m["role"] == "user" else m["content"][0]["text"] for m in conversation]

    def test_with_the_items_of_the_responses(self, agent: Any) -> None:
        conversation: list[dict[str, Any]] = []
        for text in ("Weather in SF and LA?", "Which one is warmer?"):
            conversation.append(user(text))
            conversation += self.resend(agent, *conversation)["output"]
        assert said(agent).count("function_call") == 2

    def test_an_edited_message_forks_where_it_departs(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        say(agent, "I'm headed to SF!", thread_id="t")
        say(agent, "Where am I going?", thread_id="t")
        branches = Branches(agent)
        answer = self.resend(agent, user("hello"), assistant(text_of(first)), user("I'm headed to Oslo!"))
        assert said(agent)[:3] == ["hello", text_of(first), "I'm headed to Oslo!"]
        assert len(said(agent)) == 4
        parent = agent.get_checkpoint_state("t", answer["custom_outputs"]["parent_checkpoint_id"])
        assert parent["message_count"] == 2
        branches.check()

    def test_an_edited_first_message_forks_at_the_root(self, agent: Any) -> None:
        first, second = (say(agent, text, thread_id="t") for text in ("I'm headed to SF!", "Where am I going?"))
        branches = Branches(agent)
        again = [assistant(text_of(first)), user("Where am I going?"), assistant(text_of(second)), user("hello")]
        self.resend(agent, user("I'm headed to Oslo!"), *again)
        assert said(agent)[0] == "I'm headed to Oslo!"
        assert len(said(agent)) == 6
        branches.check()

    def test_it_may_depart_within_a_turn(self, agent: Any) -> None:
        begun = [user("a1"), assistant("b1"), user("a2"), assistant("b2"), user("a3")]
        self.resend(agent, *begun)
        branches = Branches(agent)
        self.resend(agent, *begun[:2], user("other"))
        assert said(agent)[:3] == ["a1", "b1", "other"]
        assert len(said(agent)) == 4
        branches.check()

    def test_what_a_client_says_of_tools_is_kept(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        called = {"type": "function_call", "call_id": "z", "name": "lookup", "arguments": "{}"}
        result = {"type": "function_call_output", "call_id": "z", "output": "from the client"}
        self.resend(agent, user("hello"), assistant(text_of(first)), called, result, user("hello again"))
        assert [item["type"] for item in agent.get_checkpoint_state("t")["messages"]] == [
            "message",
            "message",
            "function_call",
            "function_call_output",
            "message",
            "message",
        ]

    def test_who_says_the_same_twice_is_heard_twice(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        say(agent, "hello", thread_id="t")
        assert said(agent).count("hello") == 2
        self.resend(
            agent, user("hello"), assistant(text_of(first)), user("hello"), assistant(text_of(first)), user("hello")
        )
        assert said(agent).count("hello") == 3

    def test_nothing_new(self, agent: Any, rows: Callable[[], int]) -> None:
        first = say(agent, "hello", thread_id="t")
        before = rows()
        with pytest.raises(InvalidRequest, match="add a message"):
            self.resend(agent, user("hello"), assistant(text_of(first)))
        assert rows() == before
