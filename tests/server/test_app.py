import json
from typing import Any

import openai
import pytest
from conftest import http

from stateful_agent.server.app import TURN_PATHS


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def outputs_of(answer: openai.BaseModel) -> Any:
    """Our `custom_outputs`, which the client's types do not know."""
    return (answer.model_extra or {})["custom_outputs"]


class TestOpenAIClient:
    def test_create(self, client: openai.OpenAI) -> None:
        first = client.responses.create(model="stateful-agent", input="I'm headed to SF!")
        outputs = outputs_of(first)
        answer = client.responses.create(
            model="stateful-agent",
            input=[{"role": "user", "content": "Where am I going?"}],
            extra_body={"custom_inputs": {"thread_id": outputs["thread_id"]}},
        )
        assert answer.output_text == "You said you are going to SF."
        fork = client.responses.create(
            model="stateful-agent",
            input="I'm headed to New York!",
            extra_body={"custom_inputs": outputs},
        )
        assert outputs_of(fork)["parent_checkpoint_id"] == outputs["checkpoint_id"]

    def test_operations(self, client: openai.OpenAI) -> None:
        def ask(**custom_inputs: Any) -> Any:
            answer = client.responses.create(model="m", input=[], extra_body={"custom_inputs": custom_inputs})
            return outputs_of(answer)["result"]

        for text in ("I'm headed to SF!", "Where am I going?"):
            client.responses.create(model="m", input=text, extra_body={"custom_inputs": {"thread_id": "operated"}})
        history = ask(operation="get_checkpoint_history", thread_id="operated", limit=20)
        assert len(history) == 6
        state = ask(operation="get_checkpoint_state", thread_id="operated")
        asked = {"role": "user", "content": "I'm headed to Oslo!", "id": state["messages"][0]["id"]}
        at = {"thread_id": "operated", "checkpoint_id": history[1]["checkpoint_id"]}
        edited = ask(operation="update_checkpoint_state", **at, new_messages=[asked], as_node="__start__")
        answer = client.responses.create(
            model="m",
            input=[],
            extra_body={"custom_inputs": {key: edited[key] for key in ("thread_id", "checkpoint_id")}},
        )
        assert "Oslo" in answer.output_text
        assert len(ask(operation="list_branches", thread_id="operated")) == 2
        with pytest.raises(openai.BadRequestError, match="Unknown operation"):
            ask(operation="drop_tables")

    def test_previous_response_id(self, client: openai.OpenAI) -> None:
        first = client.responses.create(model="m", input="I'm headed to SF!")
        client.responses.create(model="m", input="I'm headed to Oslo!", previous_response_id=first.id)
        again = client.responses.create(model="m", input="Where am I going?", previous_response_id=first.id)
        assert again.output_text == "You said you are going to SF."
        with pytest.raises(openai.NotFoundError, match="no stored response"):
            client.responses.create(model="m", input="x", previous_response_id="resp_unknown")

    def test_create_stream(self, client: openai.OpenAI) -> None:
        events = list(client.responses.create(model="m", input="What is the weather in SF and LA?", stream=True))
        assert events[0].type == "response.created"
        assert events[-1].type == "response.completed"
        assert outputs_of(events[-1])["checkpoint_id"]
        assert [event.sequence_number for event in events] == list(range(len(events)))

    def test_stream_helper(self, client: openai.OpenAI) -> None:
        with client.responses.stream(model="m", input="What is the weather in SF?") as stream:
            final = stream.get_final_response()
        assert "61°F" in final.output_text
        assert outputs_of(final)["thread_id"]

    @pytest.mark.parametrize("base", ["", "/v1"])
    def test_with_v1_and_without(self, url: str, base: str) -> None:
        client = openai.OpenAI(base_url=url + base, api_key="none")
        (model,) = client.models.list().data
        assert client.responses.create(model=model.id, input="hello").output_text

    def test_typed_error(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="no such checkpoint"):
            client.responses.create(
                model="m", input="hi", extra_body={"custom_inputs": {"thread_id": "t", "checkpoint_id": "x"}}
            )
        with pytest.raises(openai.BadRequestError, match="thread_id"):
            client.responses.create(
                model="m", input="hi", stream=True, extra_body={"custom_inputs": {"checkpoint_id": "x"}}
            )


HOSTILE_ARGUMENTS = ["{", "[]", '{"n": NaN}', '{"n": 1e999}', f'{{"n": {10**20}}}', '{"s": "\\ud800"}', "[" * 100_000]
CALLED = {"type": "function_call_output", "call_id": "1", "output": "done"}


def call(arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "1", "name": "search", "arguments": arguments}


class TestRoutes:
    @pytest.mark.parametrize("path", [*TURN_PATHS, "/serving-endpoints/any/invocations"])
    def test_turns(self, url: str, path: str) -> None:
        answer = http.post(url + path, json={"input": [{"role": "user", "content": "hello"}]})
        assert answer.status_code == 200
        assert answer.json()["custom_outputs"]["thread_id"]

    def test_health_and_info(self, url: str) -> None:
        for path in ("/health", "/ping"):
            assert http.get(url + path).json() == {"status": "healthy"}
        assert http.get(f"{url}/agent/info").json()["agent_api"] == "responses"

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "{",
            "[]",
            "null",
            '"text"',
            "{}",
            '{"input": []}',
            '{"input": 5}',
            '{"input": "a", "stream": "false"}',
            '{"input": "a", "stream": 1}',
            '{"input": [{"role": "robot", "content": "x"}]}',
            '{"input": "a", "custom_inputs": "x"}',
            '{"input": "a", "custom_inputs": {"thread_id": "\\ud800"}}',
            '{"input": "\\ud800"}',
            "[" * 100_000,
            '{"input": "x", "custom_inputs": {"n": NaN}}',
            '{"input": "x", "custom_inputs": {"note": "\\ud800"}}',
            '{"input": "x", "custom_inputs": {"operation": "prune", "older_than_days": 0}}',
            '{"input": [], "custom_inputs": {"operation": ["prune"]}}',
            '{"input": "a", "input": "b"}',
            f'{{"input": "a", "custom_inputs": {{"thread_id": {"[" * 500 + "]" * 500}}}}}',
            f'{{"input": [{{"role": "user", "content": {"[" * 900 + "]" * 900}}}]}}',
            '{"input": "a", "custom_inputs": {"thread_id": "a", "thread_id": "b"}}',
            '{"input": "a", "custom_inputs": {"threadId": "a"}}',
            '{"input": "a", "thread_id": "a"}',
            '{"messages": [{"role": "user", "content": "a"}]}',
            '{"input": [{"type": "item_reference", "id": ["a"]}]}',
            *(json.dumps({"input": [call(arguments), CALLED]}) for arguments in HOSTILE_ARGUMENTS),
        ],
    )
    def test_bad_requests(self, url: str, body: str) -> None:
        answer = http.post(f"{url}/responses", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert set(answer.json()["error"]) == {"message", "type", "code", "param"}

    @pytest.mark.parametrize("form", [None, "", "text/plain", "application/x-www-form-urlencoded", "nonsense"])
    def test_a_body_must_be_declared_as_json(self, url: str, form: str | None) -> None:
        headers = {} if form is None else {"content-type": form}
        answer = http.post(f"{url}/responses", content='{"input": "hello"}', headers=headers)
        assert answer.status_code == 400
        assert "application/json" in answer.json()["error"]["message"]

    @pytest.mark.parametrize("form", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"])
    def test_in_any_of_the_ways_to_declare_it(self, url: str, form: str) -> None:
        answer = http.post(f"{url}/responses", content='{"input": "hello"}', headers={"content-type": form})
        assert answer.status_code == 200

    def test_too_large(self, url: str) -> None:
        answer = http.post(f"{url}/responses", json={"input": "x" * 17 * 1024 * 1024})
        assert answer.status_code == 413


class TestDatabricksClients:
    """With the workspace's address and a token, and nothing else."""

    @pytest.fixture(autouse=True)
    def workspace(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABRICKS_HOST", url)
        monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-none")

    def test_chat_databricks(self) -> None:
        from databricks_langchain import ChatDatabricks

        model = ChatDatabricks(model="any", use_responses_api=True, max_retries=0)
        asked = [("system", "Be brief."), ("user", "What is the weather in SF?")]
        answer = model.invoke(asked)
        assert "61°F" in answer.text
        assert model.invoke([*asked, answer, ("user", "I'm headed to SF!")]).text.endswith("you are going to SF.")

    def test_databricks_openai(self) -> None:
        from databricks_openai import DatabricksOpenAI

        client = DatabricksOpenAI(max_retries=0)
        assert "SF" in client.responses.create(model="any", input="I'm headed to SF!").output_text

    def test_mlflow_deployments(self) -> None:
        from mlflow.deployments import get_deploy_client

        client = get_deploy_client("databricks")
        body = {"input": [{"role": "user", "content": "I'm headed to SF!"}], "metadata": {"thread_id": "deployed"}}
        assert client.predict(endpoint="any", inputs=body)["custom_outputs"]["thread_id"] == "deployed"
        events = list(client.predict_stream(endpoint="any", inputs=body))
        assert events[-1]["type"] == "response.completed"
