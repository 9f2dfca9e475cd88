"""How tests ask a server for responses, and look at what has become of them."""

from functools import cache
from typing import Any

import openai
from conftest import eventually, http

WORDS = [*"abcdefgh"]
"""What a model says that is served for these tests."""


@cache
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def ask(url: str, thread_id: str = "t", text: str = "hi", **more: Any) -> Any:
    ref = {"custom_inputs": {"thread_id": thread_id}}
    return client(url).responses.create(model="m", input=text, extra_body=ref, **more)


def ended(url: str, response_id: str) -> Any:
    """The response, once it has ended."""
    eventually(lambda: client(url).responses.retrieve(response_id).status not in ("queued", "in_progress"))
    return client(url).responses.retrieve(response_id)


def head(url: str, thread_id: str = "t") -> str:
    return str(http.get(f"{url}/threads/{thread_id}/state").json()["checkpoint_id"])


def received(url: str, thread_id: str = "t") -> list[str]:
    messages = http.get(f"{url}/threads/{thread_id}/state").json()["messages"]
    return [message["content"][0]["text"] for message in messages]
