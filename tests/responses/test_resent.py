from collections.abc import Callable
from typing import Any

import pytest
from conftest import say, text_of
from walking import Branches, assistant, texts, user

from stateful_agent.errors import CheckpointNotFound, InvalidRequest, ThreadNotFound
from stateful_agent.responses.request import read_request

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
            sent = [text for text in texts(agent) if not text.startswith("function_call")]
            assert sent == [m["content"] if m["role"] == "user" else m["content"][0]["text"] for m in conversation]

    def test_with_the_items_of_the_responses(self, agent: Any) -> None:
        conversation: list[dict[str, Any]] = []
        for text in ("Weather in SF and LA?", "Which one is warmer?"):
            conversation.append(user(text))
            conversation += self.resend(agent, *conversation)["output"]
        assert texts(agent).count("function_call") == 2

    def test_an_edited_message_forks_where_it_departs(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        say(agent, "I'm headed to SF!", thread_id="t")
        say(agent, "Where am I going?", thread_id="t")
        branches = Branches(agent)
        answer = self.resend(agent, user("hello"), assistant(text_of(first)), user("I'm headed to Oslo!"))
        assert texts(agent)[:3] == ["hello", text_of(first), "I'm headed to Oslo!"]
        assert len(texts(agent)) == 4
        parent = agent.get_checkpoint_state("t", answer["custom_outputs"]["parent_checkpoint_id"])
        assert parent["message_count"] == 2
        branches.check()

    def test_an_edited_first_message_forks_at_the_root(self, agent: Any) -> None:
        first, second = (say(agent, text, thread_id="t") for text in ("I'm headed to SF!", "Where am I going?"))
        branches = Branches(agent)
        again = [assistant(text_of(first)), user("Where am I going?"), assistant(text_of(second)), user("hello")]
        self.resend(agent, user("I'm headed to Oslo!"), *again)
        assert texts(agent)[0] == "I'm headed to Oslo!"
        assert len(texts(agent)) == 6
        branches.check()

    def test_it_may_depart_within_a_turn(self, agent: Any) -> None:
        begun = [user("a1"), assistant("b1"), user("a2"), assistant("b2"), user("a3")]
        self.resend(agent, *begun)
        branches = Branches(agent)
        self.resend(agent, *begun[:2], user("other"))
        assert texts(agent)[:3] == ["a1", "b1", "other"]
        assert len(texts(agent)) == 4
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

    def test_the_threads_word_counts_for_its_own_calls(self, agent: Any) -> None:
        asked = user("Weather in SF and LA?")
        first = self.resend(agent, asked)
        branches = Branches(agent)
        made_up = [
            {**item, "output": "There is no such tool."} if item["type"] == "function_call_output" else item
            for item in first["output"]
        ]
        self.resend(agent, asked, *made_up, user("Which one is warmer?"))
        assert "There is no such tool." not in str(agent.get_checkpoint_state("t"))
        assert len(agent.list_branches("t")) == 1
        branches.check()

    def test_calls_without_their_outputs(self, agent: Any) -> None:
        asked = user("Weather in SF and LA?")
        items = [item for item in self.resend(agent, asked)["output"] if item["type"] != "function_call_output"]
        self.resend(agent, asked, *items, user("Which one is warmer?"))
        assert texts(agent).count("function_call") == 2
        assert len(agent.list_branches("t")) == 1

    def test_who_says_the_same_twice_is_heard_twice(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        say(agent, "hello", thread_id="t")
        assert texts(agent).count("hello") == 2
        self.resend(
            agent, user("hello"), assistant(text_of(first)), user("hello"), assistant(text_of(first)), user("hello")
        )
        assert texts(agent).count("hello") == 3

    def test_nothing_new(self, agent: Any, rows: Callable[[], int]) -> None:
        first = say(agent, "hello", thread_id="t")
        before = rows()
        with pytest.raises(InvalidRequest, match="add a message"):
            self.resend(agent, user("hello"), assistant(text_of(first)))
        assert rows() == before


class TestItemReferences:
    """As the AI SDK resends the assistant's messages: by their ids."""

    def ask(self, agent: Any, *items: dict[str, Any], **fields: Any) -> dict[str, Any]:
        request = read_request({"input": list(items), **fields})
        return dict(agent.loop.run(agent.apredict(request)).model_dump(exclude_none=True))

    def refer(self, response: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"type": "item_reference", "id": item["id"]} for item in response["output"]]

    @pytest.fixture
    def first(self, agent: Any) -> dict[str, Any]:
        return say(agent, "Weather in SF and LA?", thread_id="t")

    @pytest.mark.parametrize("by", ["conversation", "previous_response_id", "metadata"])
    def test_they_are_what_the_thread_holds(self, agent: Any, first: dict[str, Any], by: str) -> None:
        ref = {"conversation": "t", "previous_response_id": first["id"], "metadata": {"thread_id": "t"}}[by]
        before = texts(agent)
        answer = self.ask(agent, user("Weather in SF and LA?"), *self.refer(first), user("hello"), **{by: ref})
        assert texts(agent) == [*before, "hello", text_of(answer)]
        assert len(agent.list_branches("t")) == 1

    def test_an_edited_message_forks(self, agent: Any, first: dict[str, Any]) -> None:
        say(agent, "hello", thread_id="t")
        branches = Branches(agent)
        self.ask(
            agent,
            user("Weather in SF and LA?"),
            *self.refer(first),
            user("Which one is warmer?"),
            metadata={"thread_id": "t"},
        )
        assert "hello" not in texts(agent)
        assert len(agent.list_branches("t")) == 2
        branches.check()

    def test_parts_that_input_leaves_out_may_be_named(self, agent: Any, first: dict[str, Any]) -> None:
        message = self.refer(first)[-1]
        tool_call = {"type": "item_reference", "id": f"{message['id']}-mcp_call-0"}
        self.ask(agent, tool_call, message, user("hello"), conversation="t")
        assert len(agent.list_branches("t")) == 1

    @pytest.mark.parametrize("named", ["msg_unknown", "", None, 7, ["x"]])
    def test_unknown_ones_are_refused(self, agent: Any, first: dict[str, Any], rows: Any, named: Any) -> None:
        before = rows()
        reference = {"type": "item_reference", "id": named}
        with pytest.raises(InvalidRequest, match="holds no item") as refused:
            self.ask(agent, user("a"), reference, user("b"), metadata={"thread_id": "t"})
        assert refused.value.param == "input[1].id"
        assert rows() == before

    @pytest.mark.parametrize("fields", [{}, {"store": False}])
    def test_without_a_thread_they_name_nothing(self, agent: Any, rows: Any, fields: Any) -> None:
        with pytest.raises(InvalidRequest, match="name the thread too"):
            self.ask(agent, {"type": "item_reference", "id": "x"}, user("b"), **fields)
        assert rows() == 0

    def test_no_thread_begins_with_one(self, agent: Any, rows: Any) -> None:
        with pytest.raises(ThreadNotFound):
            self.ask(agent, {"type": "item_reference", "id": "x"}, user("b"), metadata={"thread_id": "new"})
        assert rows() == 0
        assert agent.list_threads() == []
