"""What is no longer sent of a conversation is summarized; each checkpoint has the summary of its own past."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from conftest import say, text_of
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from model_apis import Refusal, Reply
from openai_apis import ChatCompletions
from scripted import Scripted

from stateful_agent.graph.build import build_graph
from stateful_agent.graph.models import chat_model
from stateful_agent.graph.summaries import HEADING

Make = Callable[..., Any]


class Summarizing(Scripted):
    """A model that answers `yes`, and makes a summary of the questions if it is asked for one."""

    summaries: Any = None
    """What it was asked to summarize."""

    fails: bool = False

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        if messages[0].type == "system":  # as the agent asks it
            async for chunk in Scripted._astream(self, messages, *args, **kwargs):
                yield chunk
            return
        self.summaries.append(messages[-1].text)
        if self.fails:
            raise ConnectionError("nobody there")
        known = [f"q{n}" for n in range(50) if re.search(rf"q{n}\b", messages[-1].text)]
        yield ChatGenerationChunk(message=AIMessageChunk(content=f"They asked {', '.join(known)}. "))


def question(n: int) -> str:
    return f"q{n} " + "x" * 400


@pytest.fixture
def model() -> Summarizing:
    return Summarizing(words=("yes",), received=[], summaries=[])


@pytest.fixture
def agent(make_agent: Make, model: Summarizing) -> Any:
    return make_agent(build_graph(model, [], "Be brief.", context_tokens=500, summarize=True))


def known(model: Summarizing) -> list[str]:
    """What the model was told last of what it was not sent."""
    said = model.received[-1][1].text
    return said.removeprefix(HEADING).removeprefix("They asked ").rstrip(". ").split(", ") if HEADING in said else []


def test_what_is_left_out_is_told_as_a_summary(agent: Any, model: Summarizing) -> None:
    for n in range(10):
        response = say(agent, question(n), thread_id="t")
        assert text_of(response) == "yes "
        sent = [message.text for message in model.received[-1][1:]]
        newest = [f"q{m}" for m in range(n + 1) if any(text.startswith(f"q{m} ") for text in sent)]
        assert known(model) + newest == [f"q{m}" for m in range(n + 1)]
        left_out = response["custom_outputs"].get("messages_left_out", 0)
        assert left_out == 2 * len(known(model))
    assert len(model.summaries) < 7  # not one for each turn
    assert "state" not in response["custom_outputs"]
    assert len(agent.get_checkpoint_state("t")["messages"]) == 20
    assert agent.get_checkpoint_state("t")["values"]["summary"]["messages"] == left_out


def test_a_stream_has_nothing_of_it(agent: Any, model: Summarizing) -> None:
    for n in range(6):
        request = {"input": [{"role": "user", "content": question(n)}], "custom_inputs": {"thread_id": "t"}}
        events = [event.model_dump() for event in agent.predict_stream(request)]
        assert "".join(event["delta"] for event in events if event.get("delta")) == "yes "
    assert model.summaries


def test_one_goes_on_from_the_one_before(agent: Any, model: Summarizing) -> None:
    for n in range(10):
        say(agent, question(n), thread_id="t")
    assert HEADING in model.summaries[-1]
    assert "q0 " + "x" * 400 not in model.summaries[-1]


def test_it_forks_with_the_tree(agent: Any, model: Summarizing) -> None:
    turns = [say(agent, question(n), thread_id="t")["custom_outputs"] for n in range(10)]
    say(agent, question(20), **turns[5])
    sent = [message.text.split()[0] for message in model.received[-1][2:] if message.type == "human"]
    assert known(model) + sent == [f"q{n}" for n in range(6)] + ["q20"]
    say(agent, question(21), **turns[9])
    assert known(model)[:6] == [f"q{n}" for n in range(6)]
    assert "q20" not in known(model)


def test_what_was_edited_since_is_summarized_anew(agent: Any, model: Summarizing) -> None:
    for n in range(10):
        head = say(agent, question(n), thread_id="t")["custom_outputs"]
    first = agent.get_checkpoint_state("t")["messages"][0]
    edited = {"id": first["id"], "role": "user", "content": question(40)}
    edit = agent.update_checkpoint_state("t", head["checkpoint_id"], [edited])
    say(agent, question(10), thread_id="t", checkpoint_id=edit["checkpoint_id"])
    assert ("q40" in known(model), "q0" in known(model)) == (True, False)


def test_where_it_fails_the_turn_goes_on_without(agent: Any, model: Summarizing) -> None:
    model.fails = True
    for n in range(6):
        assert text_of(say(agent, question(n), thread_id="t")) == "yes "
        model.fails = n < 4
    assert known(model)[0] == "q0"
    assert len(model.summaries) > 3


def test_what_is_too_long_for_the_model_is_summarized_in_parts(make_agent: Make, model: Summarizing) -> None:
    plain = make_agent(build_graph(model, [], "Be brief."))
    for n in range(12):
        say(plain, question(n), thread_id="t")
    agent = make_agent(build_graph(model, [], "Be brief.", context_tokens=500, summarize=True))
    say(agent, question(12), thread_id="t")
    assert known(model)[:9] == [f"q{n}" for n in range(9)]
    assert len(model.summaries) > 1
    assert all(len(asked) < 20_000 for asked in model.summaries)


def test_nothing_is_summarized_while_all_is_sent(agent: Any, model: Summarizing) -> None:
    say(agent, question(0), thread_id="t")
    assert (model.summaries, agent.get_checkpoint_state("t")["values"].get("summary")) == ([], None)


def test_by_a_providers_model(make_agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatCompletions(Reply()) as api:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        graph = build_graph(chat_model("openai:m", max_retries=0), [], context_tokens=300, summarize=True)
        agent = make_agent(graph)
        for n in range(4):
            response = say(agent, question(n), thread_id="t")
            assert text_of(response) == "an answer"
        assert HEADING in str(api.requests[-1]["messages"][0]["content"])
        api.answers = [Refusal("invalid"), Reply()]
        assert text_of(say(agent, question(4), thread_id="t")) == "an answer"
