"""An agent that talks to a provider's model."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from model_apis import (
    Answer,
    ModelApi,
)
from providers import PROVIDERS, Talk, look

from stateful_agent.graph.build import build_graph
from stateful_agent.graph.models import chat_model

Make = Callable[..., Any]


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def talk(make_agent: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Talk]]:
    """Lets an agent talk to a provider that gives these answers."""
    running: list[ModelApi] = []

    def talk(name: str, *answers: Answer, max_retries: int = 0, timeout: float = 20, **more: Any) -> Talk:
        api = PROVIDERS[name].api(*answers)
        api.__enter__()
        running.append(api)
        for variable, value in PROVIDERS[name].environment.items():
            monkeypatch.setenv(variable, value.format(url=api.url))
        responses = PROVIDERS[name].use_responses_api
        model = chat_model(PROVIDERS[name].model, max_retries=max_retries, timeout=timeout, use_responses_api=responses)
        return Talk(api, make_agent(build_graph(model, [look], "Be brief.", model_timeout=timeout, **more)))

    yield talk
    for api in running:
        api.__exit__()
