"""A conversation that is too long for the model: its oldest turns are not sent, and stay in the thread."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately
from scripted import Scripted
from walking import user

from stateful_agent.graph import build_graph
from stateful_agent.graph.context_window import newest_turns
from stateful_agent.responses.request import read_request

Make = Callable[..., Any]


def turn(n: int) -> list[AnyMessage]:
    call = ToolCall(name="look", args={}, id=f"c{n}")
    return [
        HumanMessage(f"question {n} " + "x" * 40),
        AIMessage("", tool_calls=[call]),
        ToolMessage("y" * 40, tool_call_id=f"c{n}"),
        AIMessage(f"answer {n} " + "z" * 40),
    ]


TURNS = [turn(n) for n in range(10)]
MESSAGES = [message for turn in TURNS for message in turn]
TURN = count_tokens_approximately(TURNS[0])


class TestTheNewestTurns:
    def test_are_all_of_them_where_there_is_room(self) -> None:
        assert newest_turns(MESSAGES, 10 * TURN) == MESSAGES

    @pytest.mark.parametrize("turns", range(1, 10))
    def test_are_whole_and_fit(self, turns: int) -> None:
        kept = list(newest_turns(MESSAGES, turns * TURN))
        assert kept in [MESSAGES[4 * n :] for n in range(10)]
        assert count_tokens_approximately(kept) <= turns * TURN

    def test_the_last_one_is_sent_whatever_its_size(self) -> None:
        assert newest_turns(MESSAGES, 1) == TURNS[-1]
        assert newest_turns(MESSAGES, -1) == TURNS[-1]

    def test_two_questions_in_a_row_are_one_turn(self) -> None:
        asked: list[AnyMessage] = [HumanMessage("look at this"), HumanMessage("what is it?")]
        assert newest_turns([*MESSAGES, *asked], 1) == asked

    def test_begin_at_the_same_turn_for_some_turns(self) -> None:
        begins = {str(newest_turns(MESSAGES[: 4 * n], 6 * TURN)[0].content) for n in range(6, 11)}
        assert len(begins) < 5


class TestWithAModelWhoseWindowIsKnown:
    def talk(self, agent: Any, **fields: Any) -> Any:
        asked = {"input": [user("and now? " + "x" * 400)], "custom_inputs": {"thread_id": "t"}, **fields}
        return agent.loop.run(agent.apredict(read_request(asked)))

    def test_the_oldest_are_not_sent_and_stay_in_the_thread(self, make_agent: Make) -> None:
        model = Scripted("yes", profile={"max_input_tokens": 500}, received=[])
        agent = make_agent(build_graph(model, [], "Be brief."))
        for _ in range(10):
            self.talk(agent, truncation="auto")
        assert [len(messages) for messages in model.received[:3]] == [2, 4, 6]
        assert len(model.received[-1]) <= 8
        assert (model.received[-1][0].content, model.received[-1][1].type) == ("Be brief.", "human")
        assert len(agent.get_checkpoint_state("t")["messages"]) == 20

    def test_it_is_told_how_many_were_left_out(self, make_agent: Make) -> None:
        model = Scripted("yes", received=[])
        agent = make_agent(build_graph(model, [], context_tokens=500))
        left_out = [self.talk(agent).custom_outputs.get("messages_left_out") for _ in range(10)]
        assert left_out[:3] == [None, None, None]
        assert left_out[-1] == 19 - len(model.received[-1])
        again = self.talk(agent, custom_inputs=self.talk(agent).custom_outputs)
        assert again.custom_outputs["messages_left_out"] > 0

    def test_unless_that_is_asked_for_all_are_sent(self, make_agent: Make) -> None:
        model = Scripted("yes", profile={"max_input_tokens": 50}, received=[])
        agent = make_agent(build_graph(model, []))
        for _ in range(3):
            self.talk(agent)
        assert len(model.received[-1]) == 5
