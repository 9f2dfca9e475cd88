from typing import Any

import pytest
from mlflow.types.responses import ResponsesAgentRequest

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.request import read_request

DEFAULTS = [
    # What clients send without being asked to.
    {"tools": [], "include": [], "instructions": "be brief"},  # openai-agents
    {"tools": [{"type": "mcp", "server_label": "stateful-agent", "server_url": "http://here"}]},  # and with approvals
    {"tools": None, "tool_choice": "auto", "parallel_tool_calls": True, "text": {"format": {"type": "text"}}},
    {"include": ["reasoning.encrypted_content"], "text": {"verbosity": "low"}, "reasoning": {"effort": "minimal"}},
    {"stream_options": {"include_obfuscation": False}, "store": True, "background": False, "service_tier": "auto"},
    {"presence_penalty": 0.5, "frequency_penalty": -2},
    {"truncation": "auto"},
    {"truncation": "disabled", "top_logprobs": 0, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k"},
    {"model": "any", "temperature": 0.0, "top_p": 1, "max_output_tokens": 100, "metadata": {"a": "b"}},
    {"databricks_options": {"return_trace": True}, "context": {"conversation_id": "c", "user_id": "u"}},
]
MISLEADING = [
    {"max_tool_calls": 1},
    {"top_logprobs": 3},
    {"include": ["message.output_text.logprobs"]},
    {"text": "json"},
    {"prompt": {"id": "p"}},
    {"messages": [{"role": "user", "content": "hi"}]},
    {"max_tokens": 5},
    {"max_completion_tokens": 5},
    {"response_format": {"type": "json_object"}},
    {"thread_id": "t"},
    {"checkpoint_id": "c"},
    {"operation": "prune"},
    {"extra_body": {"custom_inputs": {"thread_id": "t"}}},
]
MALFORMED = [
    {"tools": [{"type": "mcp", "server_label": "another"}]},
    {"tools": [{"type": "web_search"}]},
    {"tools": {}},
    {"tool_choice": "sometimes"},
    {"tool_choice": {"type": "function"}},
    {"parallel_tool_calls": 0},
    {"text": {"format": {"type": "xml"}}},
    {"reasoning": {"effort": "much"}},
    {"temperature": 3},
    {"temperature": "warm"},
    {"temperature": float("nan")},
    {"top_p": -1},
    {"presence_penalty": 3},
    {"frequency_penalty": True},
    {"truncation": "sometimes"},
    {"truncation": ["of any type"]},
    {"max_output_tokens": 0},
    {"instructions": ["be brief"]},
    {"stream": "false"},
    {"store": "false"},
    {"background": 1},
    {"metadata": {"a": 1}},
    {"metadata": []},
    {"conversation": 7},
    {"previous_response_id": 7},
    {"custom_inputs": []},
    {"context": "c"},
    {"input": 7},
    {"input": ["text"]},
    {"input": {"role": "user"}},
]


def test_text_is_a_users_message() -> None:
    assert read_request({"input": "hi"}).input == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": []}])
def test_nothing_is_no_input(body: dict[str, Any]) -> None:
    assert read_request(body).input == []


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_what_clients_send_by_default_passes(defaults: dict[str, Any]) -> None:
    read_request({"input": "hi"} | defaults)


@pytest.mark.parametrize("asked", MISLEADING, ids=lambda asked: next(iter(asked)))
def test_what_would_mislead_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_request({"input": "hi"} | asked)
    assert refused.value.param == next(iter(asked))


@pytest.mark.parametrize("asked", MALFORMED, ids=str)
def test_what_is_malformed_is_refused_by_name(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_request({"input": "hi"} | asked)
    name = next(iter(asked))
    assert str(refused.value.param).startswith(name)
    assert name in refused.value.message


def test_mlflows_own_request_is_read_as_strictly() -> None:
    given = {"input": [{"role": "user", "content": "hi"}]}
    assert read_request(ResponsesAgentRequest(**given)).input[0]["content"] == "hi"
    with pytest.raises(InvalidRequest, match="'web_search'"):
        read_request(ResponsesAgentRequest(**given, tools=[{"type": "web_search"}]))


def test_items_that_mlflow_does_not_know_pass() -> None:
    items = [
        {"role": "assistant", "content": [{"type": "output_text", "text": "no id"}]},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "f", "arguments": "{}", "output": "x"},
    ]
    assert read_request({"input": items}).input == items
