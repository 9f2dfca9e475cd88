"""The form that a request wants the answer in, and how it is to be reasoned and written."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import http
from langchain_openai import ChatOpenAI
from listening_servers import served
from model_apis import ModelApi, Reply
from open_responses import check_response
from openai_apis import ChatCompletions
from pydantic import SecretStr
from scripted import Scripted

from stateful_agent.graph import OfflineModel, build_graph, current_time

Make = Callable[..., Any]

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "name": "trip", "schema": SCHEMA, "strict": True}


def take(url: str, **body: Any) -> Any:
    answered = http.post(f"{url}/v1/responses", json={"input": "I'm headed to SF for 3 days!"} | body)
    if answered.status_code == 200:
        check_response(answered.json())
    return answered


class TestWithTheOfflineModel:
    @pytest.fixture
    def url(self, make_agent: Make) -> Any:
        with served(make_agent(build_graph(OfflineModel(), [current_time]))) as url:
            yield url

    def test_json_of_a_schema(self, url: str) -> None:
        response = take(url, text={"format": FORM}).json()
        assert set(json.loads(response["output"][-1]["content"][0]["text"])) == {"city", "days"}
        assert response["text"]["format"] == FORM | {"description": None}

    def test_json_of_any_form(self, url: str) -> None:
        response = take(url, text={"format": {"type": "json_object"}}).json()
        assert isinstance(json.loads(response["output"][-1]["content"][0]["text"]), dict)

    def test_tools_are_called_first(self, url: str) -> None:
        response = take(url, input="What time is it?", text={"format": FORM}).json()
        assert [item["type"] for item in response["output"]] == ["function_call", "function_call_output", "message"]
        json.loads(response["output"][-1]["content"][0]["text"])

    def test_how_it_is_asked_for_is_told(self, url: str) -> None:
        response = take(url, text={"verbosity": "low"}, reasoning={"effort": "low"}).json()
        assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
        assert response["reasoning"] == {"effort": "low", "summary": None}

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"text": {"format": {"type": "xml"}}}, "text.format"),
            ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format"),
            ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format"),
            ({"text": {"verbosity": "loud"}}, "text.verbosity"),
            ({"text": "json"}, "text"),
            ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
            ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ],
    )
    def test_another_shape_is_refused(self, url: str, fields: Any, param: str) -> None:
        refused = take(url, **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"text": {"format": FORM}}, "text.format"), ({"presence_penalty": 1}, "presence_penalty")],
    ids=["a form", "a penalty"],
)
def test_a_model_that_cannot_is_refused(make_agent: Make, asked: Any, param: str) -> None:
    with served(make_agent(build_graph(Scripted("hi"), []))) as url:
        refused = take(url, **asked)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


class TestWithOpenAIsApi:
    """LangChain's own class of OpenAI's models sends what it is asked for in the provider's words."""

    @pytest.fixture
    def api(self) -> Any:
        with ChatCompletions(Reply(('{"city": "SF", "days": 3}',))) as api:
            yield api

    def agent(self, make_agent: Make, api: ModelApi, *tools: Any) -> Any:
        model = ChatOpenAI(model="gpt-5", api_key=SecretStr("none"), base_url=f"{api.url}/v1")
        return served(make_agent(build_graph(model, tools)))

    @pytest.mark.parametrize("tools", [(), (current_time,)], ids=["alone", "beside tools that are not strict"])
    def test_a_schema(self, make_agent: Make, api: ModelApi, tools: Any) -> None:
        with self.agent(make_agent, api, *tools) as url:
            response = take(url, text={"format": FORM}).json()
        assert json.loads(response["output"][-1]["content"][0]["text"]) == {"city": "SF", "days": 3}
        form = api.requests[-1]["response_format"]
        assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == (
            "json_schema",
            "trip",
            True,
        )
        assert form["json_schema"]["schema"] == SCHEMA
        assert [tool["function"]["name"] for tool in api.requests[-1].get("tools", ())] == [t.name for t in tools]

    def test_effort_and_verbosity(self, make_agent: Make, api: ModelApi) -> None:
        with self.agent(make_agent, api, current_time) as url:
            take(url, text={"verbosity": "low"}, reasoning={"effort": "low"})
        assert (api.requests[-1]["reasoning_effort"], api.requests[-1]["verbosity"]) == ("low", "low")

    def test_penalties(self, make_agent: Make, api: ModelApi) -> None:
        with self.agent(make_agent, api, current_time) as url:
            response = take(url, presence_penalty=0.5, frequency_penalty=-0.5).json()
        sent = api.requests[-1]
        assert (sent["presence_penalty"], sent["frequency_penalty"]) == (0.5, -0.5)
        assert (response["presence_penalty"], response["frequency_penalty"]) == (0.5, -0.5)

    def test_functions_of_the_clients_and_the_choice(self, make_agent: Make, api: ModelApi) -> None:
        function = {"type": "function", "name": "f", "description": "F.", "parameters": SCHEMA, "strict": True}
        with self.agent(make_agent, api, current_time) as url:
            take(url, tools=[function], tool_choice="required", parallel_tool_calls=False)
        sent = api.requests[-1]
        assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
        bound = {name: function[name] for name in ("name", "description", "parameters", "strict")}
        assert sent["tools"][-1] == {"type": "function", "function": bound}
