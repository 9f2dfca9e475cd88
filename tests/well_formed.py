"""What holds of the events of every response."""

from typing import Any

from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent
from open_responses import check_event

from stateful_agent.responses.types import Event


def kinds(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def output(events: list[Event]) -> list[Any]:
    return list(events[-1]["response"]["output"])


def well_formed(events: list[Event], *, mlflow: bool = True) -> None:
    """One item at a time, with indices 0 to n-1 and an id of its own; the deltas add up to what is emitted at last.
    MLflow's own types accept every event."""
    assert kinds(events)[:2] == ["created", "in_progress"]
    assert kinds(events)[-1] == "completed"
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    items: list[Any] = []
    opened: Any = None
    deltas: list[str] = []
    for number, event in enumerate(events):
        kind = event["type"]
        assert event["sequence_number"] == number
        check_event(event)
        if mlflow:
            ResponsesAgentStreamEvent(**event)
        if kind == "response.output_item.added":
            assert opened is None
            opened, deltas = event["item"], []
        elif kind == "response.output_item.done":
            assert {key: event["item"][key] for key in ("id", "type")} == {key: opened[key] for key in ("id", "type")}
            assert event["item"].get("status", "completed") in ("completed", "incomplete", "failed")
            items.append(event["item"])
            opened = None
        elif "output_index" in event:
            assert event["item_id"] == opened["id"]
            if kind.endswith(".delta"):
                deltas.append(event["delta"])
            elif {"text", "refusal", "arguments"} & set(event):
                assert "".join(deltas) == next(event[key] for key in ("text", "refusal", "arguments") if key in event)
                assert deltas
        if "output_index" in event:
            assert event["output_index"] == len(items) - (kind == "response.output_item.done")
    assert items == output(events)
    assert len({item["id"] for item in items}) == len(items)
    if mlflow:
        ResponsesAgentResponse(**events[-1]["response"])
