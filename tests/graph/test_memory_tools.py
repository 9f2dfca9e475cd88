"""The built-in agent remembers things of a user by tools, and recalls them in other threads."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import say
from scripted import Calling

from stateful_agent.graph.build import build_graph
from stateful_agent.graph.memory_tools import MAX_MEMORY_CHARS, RECALLED, memory_tools

Make = Callable[..., Any]


@pytest.fixture
def call(make_agent: Make) -> Callable[..., str]:
    """What the model reads as the result of a call, each time in another thread."""

    def call(name: str, store: bool = True, **arguments: Any) -> str:
        agent = make_agent(build_graph(Calling(tool=name, arguments=(json.dumps(arguments),)), memory_tools))
        request = {"input": [{"role": "user", "content": "go"}], "store": store}
        output = agent.predict(request).model_dump(exclude_none=True)["output"]
        return str(next(item["output"] for item in output if item["type"] == "function_call_output"))

    return call


def test_what_is_remembered_is_recalled(call: Callable[..., str]) -> None:
    assert call("recall", about="drinks") == "Nothing is remembered."
    assert call("remember", text="She likes tea.").startswith("Remembered")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \(\w{8}\): She likes tea\.", call("recall", about="drinks"))


def test_it_can_be_changed_and_forgotten(call: Callable[..., str]) -> None:
    [memory_id] = re.findall(r"\((\w+)\)", call("remember", text="She likes tea."))
    assert call("remember", text="She likes coffee.", memory_id=memory_id) == f"Remembered ({memory_id})."
    assert "tea" not in call("recall", about="tea")
    assert call("remember", text=" ", memory_id=memory_id) == f"Forgotten ({memory_id})."
    assert call("recall", about="tea") == "Nothing is remembered."


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"text": "x" * (MAX_MEMORY_CHARS + 1)}, "too long"),
        ({"text": " "}, "nothing to remember"),
        ({"text": "x", "memory_id": "nothing"}, "Nothing is remembered as 'nothing'"),
        ({"text": "x", "store": False}, "not stored"),
    ],
    ids=["too long", "blank", "unknown", "unstored"],
)
def test_what_cannot_be_remembered(call: Callable[..., str], arguments: Any, reason: str) -> None:
    assert reason in call("remember", **arguments)
    assert call("recall", about="x") == "Nothing is remembered."


def test_of_many_those_with_the_same_words_are_recalled(make_agent: Make, call: Callable[..., str]) -> None:
    agent = make_agent()

    async def fill() -> None:
        store = agent.memory_of(agent._identified())
        for n in range(RECALLED + 5):
            await store.aput(("memories",), f"{n}", {"text": f"She knows fact {n}."})

    call("remember", text="She likes tea.")
    agent.loop.run(fill())
    lines = call("recall", about="Does she like tea?").splitlines()
    assert len(lines) == RECALLED
    assert lines[0].endswith("She likes tea.")


def test_the_built_in_agent_has_them_where_a_setting_says_so(make_agent: Make, monkeypatch: Any) -> None:
    import agent as module

    for memory, expected in ((False, False), (True, True)):
        monkeypatch.setattr(module, "settings", module.settings.model_copy(update={"memory": memory}))
        assert ("recall" in [tool.name for tool in module.tools()]) is expected
    assert say(make_agent(), "hello")
