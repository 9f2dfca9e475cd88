"""The events of a turn where they come out: from the agent, and over HTTP."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import ROOT, free_port, http, say, serving, with_agent
from open_responses import events_in
from well_formed import well_formed

from stateful_agent.errors import InvalidRequest

WEATHER = {"input": [{"role": "user", "content": "What is the weather in SF and LA?"}]}


def lines(url: str, body: dict[str, Any]) -> list[str]:
    """The parts of a stream."""
    return http.post(f"{url}/responses", json=body | {"stream": True}, timeout=30).text.split("\n\n")


def events_of(lines: list[str]) -> list[Any]:
    return events_in("\n\n".join(lines))


def in_any_order(items: list[Any], *without: str) -> list[str]:
    """Items to be compared: of calls that run at once, whichever ends first is emitted first."""
    return sorted(json.dumps({key: item[key] for key in sorted(item) if key not in without}) for item in items)


class TestItems:
    def test_have_the_ids_that_the_thread_shows(self, agent: Any) -> None:
        answer = agent.predict(WEATHER)
        shown = agent.get_checkpoint_state(answer.custom_outputs["thread_id"])["messages"]
        emitted = [item.model_dump(exclude_none=True) for item in answer.output]
        assert in_any_order(emitted) == in_any_order(shown[1:], "message_id")

    def test_are_the_same_in_json_and_in_a_stream(self, url: str) -> None:
        events = events_of(lines(url, WEATHER))
        answer = http.post(f"{url}/responses", json=WEATHER).json()
        in_stream, in_json = events[-1]["response"]["output"], answer["output"]
        assert in_any_order(in_stream, "id", "call_id") == in_any_order(in_json, "id", "call_id")
        assert set(events[-1]["response"]) == set(answer)

    @pytest.mark.parametrize(
        ("tool_items", "types"),
        [
            ("function_call", ["function_call", "function_call", "function_call_output", "function_call_output"]),
            ("mcp_call", ["mcp_call", "mcp_call"]),
            ("hidden", []),
        ],
    )
    @pytest.mark.parametrize("channel", ["custom_inputs", "metadata"])
    def test_of_tools_have_the_form_that_the_request_asks_for(
        self, url: str, tool_items: str, types: list[str], channel: str
    ) -> None:
        body = WEATHER | {channel: {"tool_items": tool_items}}
        answer = http.post(f"{url}/responses", json=body).json()
        assert [item["type"] for item in answer["output"]] == [*types, "message"]
        state = http.get(f"{url}/threads/{answer['custom_outputs']['thread_id']}/state").json()
        kinds = [item["type"] for item in state["messages"]]
        assert kinds == ["message", "function_call", "function_call", *["function_call_output"] * 2, "message"]

    def test_there_is_no_other_form(self, url: str) -> None:
        for tool_items in ("mcp", "", 5, ["hidden"]):
            answer = http.post(f"{url}/responses", json=WEATHER | {"custom_inputs": {"tool_items": tool_items}})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "tool_items"

    def test_mlflows_types_hold_no_mcp_call(self, make_agent: Callable[..., Any], rows: Callable[[], int]) -> None:
        agent = make_agent(tool_items="mcp_call")
        assert {item.type for item in agent.predict(WEATHER).output} == {
            "function_call",
            "function_call_output",
            "message",
        }
        before = rows()
        with pytest.raises(InvalidRequest, match="over HTTP"):
            agent.predict(WEATHER | {"custom_inputs": {"tool_items": "mcp_call"}})
        assert rows() == before

    def test_of_tools_may_be_hidden_by_a_setting(self, make_agent: Callable[..., Any]) -> None:
        agent = make_agent(tool_items="hidden")
        assert [item["type"] for item in say(agent, "What is the weather in SF?")["output"]] == ["message"]


class TestMetadata:
    def test_names_the_thread_and_the_checkpoint(self, url: str) -> None:
        client = openai.OpenAI(base_url=url, api_key="none")
        first = client.responses.create(model="m", input="I'm headed to SF!", metadata={"team": "a"})
        outputs = (first.model_extra or {})["custom_outputs"]
        assert first.metadata == {"team": "a", **outputs}

    def test_response_has_what_the_clients_types_require(self, url: str) -> None:
        answer = http.post(f"{url}/responses", json={"input": "hello"}).json()
        required = [name for name, field in openai.types.responses.Response.model_fields.items() if field.is_required()]
        assert set(required) <= set(answer)


@pytest.fixture(scope="module")
def commanded(logged_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Where the commanded agent is served, and its folder."""
    port, folder = free_port(), tmp_path_factory.mktemp("commanded")
    model = with_agent(logged_model, ROOT / "tests" / "commanded_agent.py", folder)
    with serving(model, folder, port, KEEP_ALIVE="0.1"):
        yield f"http://127.0.0.1:{port}", folder


class TestStream:
    def test_reasoning(self, commanded: tuple[str, Path]) -> None:
        client = openai.OpenAI(base_url=commanded[0], api_key="none")
        with client.responses.stream(model="m", input="think") as stream:
            final = stream.get_final_response()
        assert [item.type for item in final.output] == ["reasoning", "message"]
        assert final.output_text == "So."
        answer: Any = final
        state = http.get(f"{commanded[0]}/threads/{answer.metadata['thread_id']}/state").json()
        assert [item["id"] for item in state["messages"][1:]] == [item.id for item in answer.output]

    def test_is_kept_alive_while_the_model_is_silent(self, commanded: tuple[str, Path]) -> None:
        streamed = lines(commanded[0], {"input": "count"})
        comments = [n for n, line in enumerate(streamed) if line.startswith(":")]
        assert len(comments) >= 10
        well_formed(events_of(streamed))

    def test_an_unexpected_failure_ends_it_with_an_error_that_the_log_explains(
        self, commanded: tuple[str, Path]
    ) -> None:
        url, folder = commanded
        streamed = lines(url, {"input": "fail"})
        assert streamed[-2:] == ["data: [DONE]", ""]
        last = events_of(streamed)[-1]
        assert last["type"] == "error"
        assert [event["sequence_number"] for event in events_of(streamed)] == list(range(len(events_of(streamed))))
        assert "5ecret" not in "".join(streamed)
        found = re.search(r"error ([0-9a-f]{12})", last["message"])
        assert found
        log = (folder / "server.log").read_text()
        assert "5ecret" in log[log.index(found[1]) :]

    def test_a_failure_raises_in_the_client(self, commanded: tuple[str, Path]) -> None:
        client = openai.OpenAI(base_url=commanded[0], api_key="none", max_retries=0)

        def by_helper() -> None:
            with client.responses.stream(model="m", input="fail") as stream:
                stream.until_done()

        for ask in (by_helper, lambda: list(client.responses.create(model="m", input="fail", stream=True))):
            with pytest.raises(openai.APIError, match=r"Its log has the cause, under error [0-9a-f]{12}"):
                ask()
