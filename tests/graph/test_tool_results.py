"""What a model reads of what a tool returns."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from scripted import Calling

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.build import MAX_ARGUMENT_CHARS, build_graph
from stateful_agent.graph.offline_model import OfflineModel
from stateful_agent.graph.tool_results import readable, reason

PICTURE = {"type": "image", "base64": "R0lGOD", "mime_type": "image/gif"}


def result(content: Any, artifact: Any = None) -> ToolMessage:
    return ToolMessage(content, tool_call_id="c", id="1", artifact=artifact)


def test_text_is_as_it_is() -> None:
    plain = result("fine", artifact={"rows": [1]})
    assert readable(plain, 10) is plain


def test_a_long_one_is_cut_off_and_says_so() -> None:
    cut = readable(result("x" * 1234567), 1000)
    assert cut.content == "x" * 1000 + "\n[Cut off here, after 1,000 of 1,234,567 characters.]"
    assert (cut.id, cut.tool_call_id) == ("1", "c")
    assert readable(result("x" * 1001), 1000).content != "x" * 1001


def test_blocks_of_text_become_one() -> None:
    blocks = readable(result([{"type": "text", "text": "one"}, "two"]), None)
    assert (blocks.content, blocks.artifact) == ("one\ntwo", None)


@pytest.mark.parametrize(
    ("artifact", "expected"),
    [(None, {}), ({"structured_content": {"a": 1}}, {"structured_content": {"a": 1}}), ([1], {"artifact": [1]})],
)
def test_what_is_no_text_stays_in_the_artifact(artifact: Any, expected: Any) -> None:
    both = readable(result([{"type": "text", "text": "Here:"}, PICTURE], artifact), None)
    assert both.content == "Here:\n[Kept as an artifact: image.]"
    assert both.artifact == {"content": [PICTURE], **expected}


def test_the_reason_is_the_innermost() -> None:
    assert reason(ExceptionGroup("a", [ExceptionGroup("b", [ValueError("no luck")])])) == "no luck"
    assert reason(ValueError()) == "ValueError"


@pytest.mark.parametrize("name", ["two words", "größe", "x" * 65, "a.b", ""])
def test_a_name_that_models_do_not_take_is_refused(name: str) -> None:
    @tool(name)
    def unnamed() -> str:
        """Work."""
        return "done"

    unnamed.name = name
    with pytest.raises(Misconfigured, match=r"models take up to 64 letters"):
        build_graph(OfflineModel(), [unnamed])


def test_arguments_that_are_too_long_are_not_kept_and_the_tool_does_not_run(
    make_agent: Callable[..., Any],
) -> None:
    ran: list[str] = []

    @tool
    def write(text: str) -> str:
        """Write."""
        ran.append(text)
        return "written"

    arguments = '{"text": "' + "x" * MAX_ARGUMENT_CHARS + '"}'
    agent = make_agent(build_graph(Calling(tool="write", arguments=(arguments,)), [write]))
    agent.predict({"input": [{"role": "user", "content": "go"}], "custom_inputs": {"thread_id": "t"}})
    [call, output] = agent.get_checkpoint_state("t")["messages"][1:3]
    assert (call["arguments"], output["status"], ran) == ("{}", "incomplete", [])
