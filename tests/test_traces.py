import json
from typing import Any

import pytest

from stateful_agent.traces import for_trace


def test_what_is_small_is_traced_as_it_is() -> None:
    request = {"input": [{"role": "user", "content": "hi"}] * 100, "custom_inputs": {"thread_id": "t"}}
    assert for_trace(request) == request


@pytest.mark.parametrize(
    "value",
    [
        "a" * 1_000_000,
        [{"role": "user", "content": "a" * 1000}] * 5000,
        {str(n): n for n in range(100_000)},
        {"rows": [[n] * 10 for n in range(10_000)]},
    ],
)
def test_what_is_large_is_traced_in_part(value: Any) -> None:
    assert len(json.dumps(for_trace(value))) < len(json.dumps(value)) / 5


def test_the_last_item_stays() -> None:
    items = [{"content": "a" * 1000} for _ in range(1000)] + [{"content": "last"}]
    assert for_trace({"input": items})["input"][-1] == {"content": "last"}
