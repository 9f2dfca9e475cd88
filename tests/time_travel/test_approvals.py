"""A tool call that a person must allow: what they can decide, and what comes of it."""

from typing import Any

import pytest
from conftest import text_of
from paying import approval, batched, per_call, runs
from walking import answer, assistant, read_all, texts, turn, user
from well_formed import well_formed

from stateful_agent.errors import InvalidRequest

Make = Any


@pytest.mark.parametrize("graph", [batched, per_call])
class TestApprovals:
    @pytest.fixture
    def agent(self, make_agent: Make, graph: Any) -> Any:
        runs.clear()
        return make_agent(graph())

    @pytest.fixture
    def request_id(self, agent: Any) -> str:
        [item] = [item for item in turn(agent, "Pay!")["output"] if item["type"] == "mcp_approval_request"]
        assert (item["name"], item["arguments"]) == ("pay", '{"amount": 5}')
        return str(item["id"])

    def test_it_is_told_in_words_too(self, agent: Any) -> None:
        assert text_of(turn(agent, "Pay!")) == '⏸ Waiting for approval of pay({"amount": 5})'
        assert "pay 5" not in runs

    def test_approved(self, agent: Any, request_id: str) -> None:
        assert text_of(answer(agent, approval(request_id, True))) == "found it | paid 5"
        assert sorted(runs) == ["look up it", "pay 5"]

    def test_rejected(self, agent: Any, request_id: str) -> None:
        response = answer(agent, approval(request_id, False, reason="too much"))
        assert "rejected" in text_of(response)
        assert "too much" in text_of(response)
        assert runs == ["look up it"]

    @pytest.mark.parametrize(
        ("decision", "result"),
        [
            ({"type": "approve"}, "paid 5"),
            ({"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 3}}}, "paid 3"),
            ({"type": "reject", "message": "no"}, "no"),
            ({"type": "respond", "message": "I have paid it myself"}, "I have paid it myself"),
        ],
        ids=lambda value: value["type"] if isinstance(value, dict) else "",
    )
    def test_in_the_middlewares_own_form(
        self, agent: Any, graph: Any, request_id: str, decision: Any, result: str
    ) -> None:
        resume = {"decisions": [decision]} if graph is batched else decision
        assert result in text_of(turn(agent, resume=resume))

    def test_a_message_is_no_approval_and_the_model_reads_both(self, agent: Any, request_id: str) -> None:
        text = turn(agent, "yes, do it")
        assert "pay 5" not in runs
        items = agent.get_checkpoint_state("t")["messages"]
        assert "waited for a person" in next(
            i["output"] for i in items if i.get("call_id") == "call-pay" and "output" in i
        )
        assert any(item.get("content", [{}])[0].get("text") == "yes, do it" for item in items)
        assert text["output"]

    def test_answered_again_it_is_another_branch(self, agent: Any, request_id: str) -> None:
        asked = agent.get_checkpoint_state("t")["checkpoint_id"]
        answer(agent, approval(request_id, True))
        assert "rejected" in text_of(answer(agent, approval(request_id, False), checkpoint_id=asked))
        assert runs.count("pay 5") == 1

    def test_a_client_that_sends_the_conversation_again(self, agent: Any, request_id: str) -> None:
        sent = [user("Pay!"), {"type": "mcp_approval_request", "id": request_id, "name": "pay", "arguments": "{}"}]
        assert text_of(answer(agent, *sent, approval(request_id, True))) == "found it | paid 5"
        again = answer(agent, *sent, approval(request_id, True), assistant("found it | paid 5"), user("hello"))
        assert again["custom_outputs"]["interrupts"]  # the model wants to pay again
        assert texts(agent).count("Pay!") == 1

    @pytest.mark.parametrize(
        ("items", "reason"),
        [
            ([approval("mcpr_x_0", True)], "No approval 'mcpr_x_0'"),
            ([approval("mcpr_x_0", True), approval("mcpr_x_0", False)], "given twice"),
            ([user("hello"), approval("mcpr_x_0", True)], "without other input"),
            ([{"type": "mcp_approval_response", "approval_request_id": "x"}], "approve must be"),
            ([{"type": "mcp_approval_response", "approve": True}], "approval_request_id must be"),
        ],
    )
    def test_an_approval_of_nothing_changes_nothing(
        self, agent: Any, request_id: str, items: list[Any], reason: str
    ) -> None:
        before = read_all(agent)
        with pytest.raises(InvalidRequest, match=reason):
            answer(agent, *items)
        assert read_all(agent) == before

    @pytest.mark.parametrize("resume", ["yes", {"decisions": []}, {"type": "approved"}, {"decisions": [{"type": "x"}]}])
    def test_a_decision_of_another_form_is_refused(self, agent: Any, request_id: str, resume: Any) -> None:
        before = read_all(agent)
        with pytest.raises(InvalidRequest):
            turn(agent, resume=resume)
        assert read_all(agent) == before

    def test_the_stream_tells_it(self, agent: Any) -> None:
        request = {"input": [user("Pay!")], "custom_inputs": {"thread_id": "t"}}
        events = [event.model_dump() for event in agent.predict_stream(request)]
        well_formed(events)
        added = [event["item"]["type"] for event in events if event["type"] == "response.output_item.added"]
        assert added[-2:] == ["mcp_approval_request", "message"]
        assert events[-1]["response"]["custom_outputs"]["interrupts"]


@pytest.mark.parametrize(
    ("edited", "fault"),
    [({"name": "pay", "args": {"amount": "a lot"}}, "amount"), ({"name": "look_up", "args": {}}, "name")],
)
def test_an_edit_that_does_not_fit_the_tool(make_agent: Make, edited: Any, fault: str) -> None:
    agent = make_agent(per_call())
    turn(agent, "Pay!")
    before = read_all(agent)
    with pytest.raises(InvalidRequest, match=fault) as refused:
        turn(agent, resume={"type": "edit", "edited_action": edited})
    assert refused.value.param == "custom_inputs.resume"
    assert read_all(agent) == before
    assert "paid 5" in text_of(turn(agent, resume={"type": "approve"}))
