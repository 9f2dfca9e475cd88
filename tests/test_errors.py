from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from conftest import say
from langchain_core.messages import BaseMessage
from psycopg_pool import PoolTimeout
from scripted import Scripted

from stateful_agent import errors
from stateful_agent.graph.build import build_graph

Make = Callable[..., Any]


BAD = [
    ({"checkpoint_id": "x"}, errors.InvalidRequest),
    ({"thread_id": "t", "checkpoint_id": "x"}, errors.CheckpointNotFound),
    ({"thread_id": "t", "checkpoint_id": None}, errors.InvalidRequest),
    ({"thread_id": "nowhere", "checkpoint_id": "x"}, errors.CheckpointNotFound),
    ({"thread_id": "t", "operation": "dance"}, errors.InvalidRequest),
    *(
        ({"thread_id": bad}, errors.InvalidRequest)
        for bad in (None, "", "  ", 42, True, ["t"], "a\0", "\ud800", "x" * 256)
    ),
]


class TestBadInput:
    """Refused with a typed error; nothing is written and no model is called."""

    @pytest.mark.parametrize(("custom_inputs", "error"), BAD)
    def test_ids(self, make_agent: Make, rows: Any, custom_inputs: Any, error: type[Exception]) -> None:
        self.refused(make_agent, rows, [{"role": "user", "content": "hi"}], custom_inputs, error)

    @pytest.mark.parametrize(
        "items",
        [
            [],
            [{"role": "user", "content": ""}],
            [{"role": "user", "content": []}],
            [{"role": "system", "content": "obey"}],
            [{"role": "user", "content": "\ud800"}],
            [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
            [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}],
            [{"type": "function_call_output", "call_id": "c", "output": "x"}],
            [{"type": "web_search_call"}],
        ],
    )
    def test_items(self, make_agent: Make, rows: Any, items: Any) -> None:
        self.refused(make_agent, rows, items, {"thread_id": "t"}, errors.InvalidRequest)

    def test_size(self, make_agent: Make, rows: Any) -> None:
        items = [{"role": "user", "content": "x" * 2000}]
        self.refused(make_agent, rows, items, {}, errors.InputTooLarge, max_input_bytes=1000)

    def refused(
        self, make_agent: Make, rows: Any, items: Any, custom: Any, error: type[Exception], **settings: Any
    ) -> None:
        received: list[list[BaseMessage]] = []
        agent = make_agent(build_graph(Scripted("ok", received=received), []), **settings)
        say(agent, "hello", thread_id="t")
        before = rows()
        for answer in (agent.predict, lambda request: list(agent.predict_stream(request))):
            with pytest.raises(error):
                answer({"input": items, "custom_inputs": custom})
        assert rows() == before
        assert len(received) == 1

    def test_database_out_of_reach(self, make_agent: Make) -> None:
        agent = make_agent(database_url="postgresql://me:pa55word@127.0.0.1:9/nowhere", database_timeout=0.5)
        with pytest.raises(errors.StorageUnavailable) as caught:
            say(agent, "hello")
        assert "pa55word" not in str(caught.value)
        assert isinstance(caught.value.__cause__, psycopg.OperationalError | PoolTimeout)  # and not itself

    @pytest.mark.parametrize(
        ("method", "args", "error"),
        [
            ("get_checkpoint_history", ("nowhere",), errors.ThreadNotFound),
            ("get_checkpoint_history", ("t", 0), errors.InvalidRequest),
            ("get_checkpoint_history", ("t", 10, 5), errors.InvalidRequest),
            ("update_checkpoint_state", ("t", "x", [{"role": "user", "content": "x"}]), errors.CheckpointNotFound),
            (
                "update_checkpoint_state",
                ("nowhere", "x", [{"role": "user", "content": "x"}]),
                errors.CheckpointNotFound,
            ),
        ],
    )
    def test_time_travel(self, agent: Any, rows: Any, method: str, args: Any, error: type[Exception]) -> None:
        say(agent, "hello", thread_id="t")
        before = rows()
        with pytest.raises(error):
            getattr(agent, method)(*args)
        assert rows() == before

    def test_empty_edit(self, agent: Any, rows: Any) -> None:
        head = say(agent, "hello", thread_id="t")["custom_outputs"]["checkpoint_id"]
        before = rows()
        with pytest.raises(errors.InvalidRequest):
            agent.update_checkpoint_state("t", head)
        assert rows() == before


class ProviderError(Exception):
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        super().__init__("the provider's own words")


class TestFailingModel:
    @pytest.mark.parametrize(
        ("failure", "status"), [(ProviderError(429), 429), (ProviderError(500), 502), (TimeoutError("late"), 504)]
    )
    def test_is_passed_on(self, make_agent: Make, failure: Exception, status: int) -> None:
        agent = make_agent(build_graph(Scripted(failure=failure), []))
        with pytest.raises(errors.AgentError, match=str(failure)) as caught:
            say(agent, "hello")
        assert caught.value.status == status

    def test_an_inner_failure_is_not(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(Scripted(failure=RuntimeError("secret")), []))
        with pytest.raises(errors.AgentError, match=r"error [0-9a-f]{12}") as caught:
            say(agent, "hello")
        assert "secret" not in str(caught.value)

    def test_ends_a_stream_that_has_begun_with_an_event(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(Scripted("one", failure=ProviderError(429)), []))
        events = list(agent.predict_stream({"input": [{"role": "user", "content": "hello"}]}))
        assert events[-1].type == "error"
        assert events[-1].error["code"] == events[-1].code == "model_rate_limited"
