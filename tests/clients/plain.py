"""Clients that give their users plain JSON: curl, and MLflow's client for deployments. Their events are dicts."""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from driver import (
    BREAK_OFF,
    CAREFUL,
    FORM,
    FUNCTION,
    NAME,
    OSLO,
    OUTPUT,
    SF,
    SF_WEATHER,
    SLOWLY,
    STRICT_URL,
    URL,
    WARMER,
    WEATHER,
    WHERE,
    Saw,
    case,
    use_as_databricks,
)

Json = dict[str, Any]


class CurlError(Exception):
    """curl exited with an error; the message is what it printed."""


def curl(url: str, body: Json | None = None) -> Iterator[str]:
    """The lines that curl prints for a POST of `body`, or a GET."""
    command = ["curl", "--silent", "--no-buffer", "--fail-with-body", url]
    if body is not None:
        command += ["--header", "content-type: application/json", "--data", json.dumps(body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            yield line
    if process.returncode:
        raise CurlError("".join(lines))


def events_in(lines: Iterator[str]) -> Iterator[Json]:
    return (json.loads(line[6:]) for line in lines if line.startswith("data: {"))


def predict(input: str | list[Json], custom: Json, url: str = URL, **fields: Any) -> Json:
    items = [{"role": "user", "content": input}] if isinstance(input, str) else input
    body = {"input": items} | fields | custom
    if NAME == "curl":
        return dict(json.loads("".join(curl(f"{url}/responses", body))))
    return dict(deployments(url).predict(endpoint="agent", inputs=body))


def predict_stream(text: str, custom: Json, url: str = URL) -> Iterator[Json]:
    body = {"input": [{"role": "user", "content": text}]} | custom
    if NAME == "curl":
        return events_in(curl(f"{url}/responses", body | {"stream": True}))
    return iter(deployments(url).predict_stream(endpoint="agent", inputs=body))


def deployments(url: str) -> Any:
    from mlflow.deployments import get_deploy_client

    use_as_databricks(url)
    return get_deploy_client("databricks")


def receive(saw: Saw, events: Iterator[Json]) -> Json:
    """Listen to the end. Returns the last event; these clients leave it to their user to look at its type."""
    event: Json = {}
    for event in events:
        if event["type"] == "response.output_text.delta":
            saw.receive(event["delta"])
        if event["type"] == "error":
            raise RuntimeError(event["message"])
    return event


def text_of(response: Json) -> str:
    return "".join(part["text"] for item in response["output"] for part in item.get("content", ()))


def calls_in(response: Json) -> list[str]:
    return [item["name"] for item in response["output"] if item["type"] == "function_call"]


@case("answer")
def answer(saw: Saw) -> None:
    saw.text = text_of(predict(SF, saw.custom_inputs()))


@case("stream")
def stream(saw: Saw) -> None:
    assert text_of(receive(saw, predict_stream(SF, saw.custom_inputs()))["response"]) == saw.text


@case("tool call", by="JSON")
def tool_call(saw: Saw) -> None:
    response = predict(WEATHER, saw.custom_inputs())
    saw.text, saw.calls = text_of(response), calls_in(response)


@case("tool call", by="stream")
def tool_call_in_stream(saw: Saw) -> None:
    saw.calls = calls_in(receive(saw, predict_stream(WEATHER, saw.custom_inputs()))["response"])


@case("second turn", by="custom_inputs")
def second_turn(saw: Saw) -> None:
    first = predict(WEATHER, saw.custom_inputs())["custom_outputs"]
    saw.text = text_of(predict(WARMER, {"custom_inputs": {"thread_id": first["thread_id"]}}))


@case("fork", by="custom_inputs")
def fork(saw: Saw) -> None:
    first = predict(SF, saw.custom_inputs())
    predict(OSLO, saw.custom_inputs())
    saw.text = text_of(predict(WHERE, {"custom_inputs": first["custom_outputs"]}))


@case("client function")
def client_function(saw: Saw) -> None:
    asked = predict(SF_WEATHER, saw.custom_inputs(), tools=[FUNCTION])
    saw.calls, call = calls_in(asked), asked["output"][-1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": OUTPUT}
    saw.text = text_of(predict([output], saw.custom_inputs()))


@case("JSON schema")
def json_schema(saw: Saw) -> None:
    saw.text = text_of(predict(SF, saw.custom_inputs(), text=FORM))


@case("approval")
def approval(saw: Saw) -> None:
    asked = predict(CAREFUL, saw.custom_inputs(), STRICT_URL)
    [request] = [item for item in asked["output"] if item["type"] == "mcp_approval_request"]
    answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    saw.calls = [request["name"]]
    saw.text = text_of(predict([answer], saw.custom_inputs(), STRICT_URL))


@case("refused")
def refused(saw: Saw) -> None:
    predict(SF, saw.custom_inputs(checkpoint_id="none"))


@case("broken off")
def broken_off(saw: Saw) -> None:
    receive(saw, predict_stream(BREAK_OFF, saw.custom_inputs(), STRICT_URL))


if NAME != "curl":  # Databricks has no route to a response
    raise SystemExit


@case("background")
def background(saw: Saw) -> None:
    response = predict(SLOWLY, saw.custom_inputs(), STRICT_URL, background=True)
    saw.statuses.append(response["status"])
    while response["status"] in ("queued", "in_progress"):
        time.sleep(0.2)
        response = json.loads("".join(curl(f"{STRICT_URL}/responses/{response['id']}")))
    saw.statuses.append(response["status"])
    saw.text = text_of(response)


@case("resumed")
def resumed(saw: Saw) -> None:
    received = predict_stream(SLOWLY, saw.custom_inputs(), STRICT_URL)
    created = next(received)
    received.close()  # type: ignore[attr-defined]
    url = f"{STRICT_URL}/responses/{created['response']['id']}"
    last = receive(saw, events_in(curl(f"{url}?stream=true&starting_after={created['sequence_number']}")))
    saw.statuses.append(last["type"])


@case("cancelled")
def cancelled(saw: Saw) -> None:
    response = predict(SLOWLY, saw.custom_inputs(), STRICT_URL, background=True)
    url = f"{STRICT_URL}/responses/{response['id']}"
    saw.statuses += [response["status"], json.loads("".join(curl(f"{url}/cancel", {})))["status"]]
    saw.statuses.append(json.loads("".join(curl(url)))["status"])
