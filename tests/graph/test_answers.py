"""What models answer."""

from collections.abc import Callable
from typing import Any

from scripted import Scripted
from walking import user

from stateful_agent.graph.build import build_graph


def test_one_that_falls_silent_has_failed_whatever_its_client_waits_for(make_agent: Callable[..., Any]) -> None:
    agent = make_agent(build_graph(Scripted("half", lambda: False), [], model_timeout=0.5))
    *_, last = (event.model_dump() for event in agent.predict_stream({"input": [user("go")]}))
    assert (last["type"], last["code"]) == ("error", "model_timed_out")
    assert "silent for 0.5 seconds" in last["message"]
