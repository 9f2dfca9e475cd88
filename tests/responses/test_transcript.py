import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from stateful_agent.responses.transcript import Continuation, continuation


def messages(words: str) -> list[AnyMessage]:
    """`u1 a1 u2` as messages; `c` is the assistant's call of a tool, `t` its result."""
    kinds = {"u": HumanMessage, "a": AIMessage}
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1", "type": "tool_call"}])
    other: dict[str, AnyMessage] = {"c": call, "t": ToolMessage("result", tool_call_id="1")}
    return [other[word] if word in other else kinds[word[0]](word) for word in words.split()]


@pytest.mark.parametrize(
    ("thread", "request_", "new", "after"),
    [
        # A message is a message, whatever it says.
        ("", "u1", "u1", None),
        ("u1 a1", "u1", "u1", None),
        ("u1 a1", "u2 u3", "u2 u3", None),
        # The whole conversation again, and more.
        ("u1 a1", "u1 a1 u2", "u2", None),
        ("u1 a1", "u1 a1 u1", "u1", None),
        ("u1 a1 u1 a1", "u1 a1 u1 a1 u1", "u1", None),
        ("u1 a1", "u1 a1", "", None),
        ("u1 c t a1", "u1 a1 u2", "u2", None),
        ("u1 c t a1", "u1 c t a1 u2", "u2", None),
        ("u1 a1 c t a2", "u1 a1 a2 u2", "u2", None),
        # Only the end of it.
        ("u1 a1 u2 a2", "u2 a2 u3", "u3", None),
        ("u1 a1 u2 a2", "a2 u3", "u3", None),
        # An exchange that the thread holds twice: the latest one counts.
        ("u1 a1 u1 a1", "u1 a1 u2", "u2", None),
        ("u1 a1 u2 a2 u1 a1 u3 a3", "u1 a1 u4", "u4", 6),
        # It departs.
        ("u1 a1 u2 a2", "u1 a1 u3", "u3", 2),
        ("u1 a1 u2 a2", "u1 a1 u2", "u2", 2),
        ("u1 a1 u2 a2 u3 a3", "u1 a1 u4 a4 u5", "u4 a4 u5", 2),
        ("u1 c t a1 u2 a2", "u1 a1 u3", "u3", 4),
        ("u1 a1 u2 a2", "u1 a1 u2 a9 u3", "u2 a9 u3", 2),
        ("u1 a1", "u1 a9 u2", "u1 a9 u2", 0),
        # The thread ends before it does.
        ("u1 a1", "u1 a1 u2 a2 u3", "u2 a2 u3", None),
        ("u1", "u1 a1 u2", "a1 u2", None),
        ("u1 a1 u2 a2 u3 a3", "u2 a2 u4", "u4", 4),
        ("u1 a1 u2 a2", "u9 a1 u2 a2 u3", "u9 a1 u2 a2 u3", 0),
        ("u1 a1 u1", "u1 a1 u2", "u2", 2),
        ("u1 a1", "u1 a1 c t u2", "c t u2", None),
        ("u1 c t a1", "u1 c t u2", "u1 c t u2", 0),
        # Examples that have nothing to do with it.
        ("u1 a1", "u8 a8 u2", "u8 a8 u2", None),
        ("", "u1 a1 u2", "u1 a1 u2", None),
    ],
)
def test_continuation(thread: str, request_: str, new: str, after: int | None) -> None:
    assert continuation(messages(thread), messages(request_)) == Continuation(messages(new), after)


def test_results_of_calls_at_once_in_the_order_in_which_they_came() -> None:
    calls = [{"name": "f", "args": {}, "id": name, "type": "tool_call"} for name in "abc"]
    called: list[AnyMessage] = [HumanMessage("u1"), AIMessage("", tool_calls=calls)]
    a, b, c = (ToolMessage(name, tool_call_id=name) for name in "abc")
    answer, question = AIMessage("a1"), HumanMessage("u2")
    thread = [*called, a, b, c, answer]
    assert continuation(thread, [*called, c, a, b, answer, question]) == Continuation([question])
    assert continuation([*called, a], [*called, c, b, a]) == Continuation([c, b])


def test_the_same_text_in_another_form() -> None:
    thread = [HumanMessage("look  at\nthis"), AIMessage("well.  So.")]
    request: list[AnyMessage] = [
        HumanMessage([{"type": "text", "text": "look at"}, {"type": "text", "text": " this"}]),
        AIMessage("well. So."),
        HumanMessage("and?"),
    ]
    assert continuation(thread, request).new == request[2:]


def test_another_picture_is_another_message() -> None:
    def look(url: str) -> HumanMessage:
        return HumanMessage([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}])

    thread: list[AnyMessage] = [HumanMessage("hello"), AIMessage("hi"), look("a"), AIMessage("nice")]
    assert continuation(thread, [*thread[:2], look("a"), thread[3], HumanMessage("x")]).after is None
    assert continuation(thread, [*thread[:2], look("b"), thread[3], HumanMessage("x")]).after == 2
