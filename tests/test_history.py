from typing import Any

import pytest
from conftest import say

from stateful_agent.errors import InvalidRequest


class TestHistory:
    def test_an_entry(self, agent: Any) -> None:
        say(agent, "x" * 200, thread_id="t")
        newest, at_model, root = agent.get_checkpoint_history("t")
        assert [entry["next_nodes"] for entry in (newest, at_model, root)] == [[], ["model"], ["__start__"]]
        assert [entry["step"] for entry in (newest, at_model, root)] == [1, 0, -1]
        assert [entry["source"] for entry in (newest, at_model, root)] == ["loop", "loop", "input"]
        assert [entry["message_count"] for entry in (newest, at_model, root)] == [2, 1, 0]
        assert newest["parent_checkpoint_id"] == at_model["checkpoint_id"]
        assert root["parent_checkpoint_id"] is None
        assert at_model["last_message"] == "x" * 100
        assert root["last_message"] is None
        assert newest["timestamp"].endswith("+00:00")

    def test_last_message_of_any_form(self, agent: Any) -> None:
        parts = [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "data:,"}]
        agent.predict({"input": [{"role": "user", "content": parts}], "custom_inputs": {"thread_id": "t"}})
        assert agent.get_checkpoint_history("t")[1]["last_message"] == "look"

    def test_pages(self, agent: Any) -> None:
        for _ in range(4):
            say(agent, "hello", thread_id="t")
        whole = agent.get_checkpoint_history("t", 100)
        assert len(whole) == 12
        paged: list[Any] = []
        while page := agent.get_checkpoint_history("t", 5, paged[-1]["checkpoint_id"] if paged else None):
            paged += page
        assert paged == whole


class TestEdit:
    def test_leaves_the_past_as_it_was(self, agent: Any) -> None:
        say(agent, "I'm headed to SF!", thread_id="t")
        before = agent.get_checkpoint_history("t", 100)
        new = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        edited = agent.update_checkpoint_state("t", before[0]["checkpoint_id"], new)
        after = agent.get_checkpoint_history("t", 100)
        assert after[1:] == before
        assert after[0]["checkpoint_id"] == edited["checkpoint_id"]
        assert after[0]["message_count"] == 4
        assert edited["next_nodes"] == []

    def test_tool_results_go_on_to_the_model(self, agent: Any) -> None:
        calls = [item for item in say(agent, "Weather in SF and LA?", thread_id="t")["output"] if "name" in item]
        at_tools = next(e for e in agent.get_checkpoint_history("t", 20) if e["next_nodes"] == ["tools", "tools"])
        results = [
            {"type": "function_call_output", "call_id": call["call_id"], "output": f"Place {n}: 9{n}°F"}
            for n, call in enumerate(calls)
        ]
        edited = agent.update_checkpoint_state("t", at_tools["checkpoint_id"], results)
        assert edited["next_nodes"] == ["model"]
        with pytest.raises(InvalidRequest, match="no output"):
            agent.update_checkpoint_state("t", at_tools["checkpoint_id"], results[:1])
