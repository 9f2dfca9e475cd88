"""What goes wrong at a provider, before an answer and amid it, and other models that answer instead."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic_api import Anthropic
from conftest import text_of
from model_apis import (
    ModelApi,
    Refusal,
    Reply,
    Silence,
    Thinking,
)
from providers import Talks

from stateful_agent.errors import (
    AgentError,
    ContextTooLong,
    Misconfigured,
    ModelFailed,
    ModelRateLimited,
    ModelRefused,
    ModelTimedOut,
)
from stateful_agent.graph.models import chat_model

FAILURES: dict[str, tuple[type[AgentError], str]] = {
    "limited": (ModelRateLimited, "Slow down."),
    "overloaded": (ModelFailed, "We are overloaded."),
    "broken": (ModelFailed, "It broke."),
    "key": (ModelFailed, ""),
    "invalid": (ModelRefused, "A bad image."),
    "too long": (ContextTooLong, "too long for the model"),
}


class TestAFailure:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_has_its_status_and_the_providers_words(self, talk: Talks, provider: str, failure: str) -> None:
        kind, words = FAILURES[failure]
        talking = talk(provider, Refusal(failure), Reply())
        with pytest.raises(AgentError) as caught:
            talking.say("one")
        assert type(caught.value) is kind
        assert words in caught.value.message
        assert "5ecret" not in caught.value.message.lower()
        assert len(talking.api.requests) == 1
        assert text_of(talking.say("two")) == "an answer"

    def test_says_when_to_ask_again(self, talk: Talks, provider: str) -> None:
        with pytest.raises(ModelRateLimited) as caught:
            talk(provider, Refusal("limited", {"retry-after": 7})).say()
        assert caught.value.retry_after == 7
        with pytest.raises(ModelRateLimited) as caught:
            talk(provider, Refusal("limited")).say("another")
        assert caught.value.retry_after is None

    @pytest.mark.parametrize("failure", ["limited", "overloaded", "invalid"])
    def test_amid_the_answer_is_an_event(self, talk: Talks, provider: str, failure: str) -> None:
        kind, words = FAILURES[failure]
        talking = talk(provider, Reply(("half an",), fails=failure), Reply())
        *_, last = talking.events("one")
        assert last["type"] == "error"
        assert words in last["message"]
        if failure != "overloaded":
            assert last["code"] == kind.code
        assert len(talking.api.requests) == 1
        assert [item["role"] for item in talking.agent.get_checkpoint_state("t")["messages"]] == ["user"]
        assert text_of(talking.say("two")) == "an answer"

    def test_of_a_stream_that_ends_early(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply(("half an",), breaks_off=True), Reply())
        *_, last = talking.events("one")
        assert (last["type"], last["code"]) == ("error", "model_failed")
        assert [item["role"] for item in talking.agent.get_checkpoint_state("t")["messages"]] == ["user"]
        assert text_of(talking.say("two")) == "an answer"

    def test_is_tried_again_as_often_as_the_setting_says(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Refusal("overloaded"), Refusal("overloaded"), Reply(), max_retries=2)
        assert text_of(talking.say()) == "an answer"
        assert len(talking.api.requests) == 3
        talking = talk(provider, Refusal("overloaded"), max_retries=1)
        with pytest.raises(ModelFailed):
            talking.say("another")
        assert len(talking.api.requests) == 2

    def test_of_silence_before_the_answer(self, talk: Talks, provider: str) -> None:
        began = time.monotonic()
        with pytest.raises(ModelTimedOut):
            talk(provider, Silence(20), timeout=1).say()
        assert time.monotonic() - began < 10

    def test_of_silence_amid_the_answer(self, talk: Talks, provider: str) -> None:
        began = time.monotonic()
        *_, last = talk(provider, Reply(("half an answer",), pause=4), timeout=1).events()
        assert (last["type"], last["code"]) == ("error", "model_timed_out")
        assert time.monotonic() - began < 15


class TestFallbacks:
    """Another model answers where the first cannot be reached."""

    @pytest.fixture
    def second(self, talk: Talks, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModelApi, Any]]:
        with Anthropic(Reply((Thinking("So."), "from the second"))) as api:
            monkeypatch.setenv("ANTHROPIC_API_URL", api.url)
            monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
            yield api, chat_model("anthropic:claude")

    @pytest.mark.parametrize("failure", ["limited", "overloaded", "key"])
    def test_answer_and_it_is_told_which(self, talk: Talks, second: Any, failure: str) -> None:
        talking = talk("openai", Refusal(failure), Reply(("from the first",)), fallbacks=[second[1]])
        response = talking.say("one")
        assert text_of(response) == "from the second"
        assert response["custom_outputs"]["answered_by"] == "ChatAnthropic claude"
        response = talking.say("two", **response["custom_outputs"])
        assert text_of(response) == "from the first"
        assert "answered_by" not in response["custom_outputs"]
        assert "So." not in json.dumps(talking.api.requests[-1])

    def test_also_where_nobody_listens(self, talk: Talks, second: Any) -> None:
        talking = talk("openai", Reply(), fallbacks=[second[1]])
        talking.api.__exit__()
        assert text_of(talking.say()) == "from the second"

    def test_not_once_the_first_has_begun(self, talk: Talks, second: Any) -> None:
        talking = talk("openai", Reply(("half",), fails="overloaded"), fallbacks=[second[1]])
        assert talking.events()[-1]["type"] == "error"
        assert second[0].requests == []

    @pytest.mark.parametrize("failure", ["invalid", "too long"])
    def test_not_for_what_is_in_the_request(self, talk: Talks, second: Any, failure: str) -> None:
        with pytest.raises(ModelRefused):
            talk("openai", Refusal(failure), fallbacks=[second[1]]).say()
        assert second[0].requests == []

    def test_the_last_ones_failure_is_told(self, talk: Talks, second: Any) -> None:
        second[0].answers = [Refusal("broken")]
        with pytest.raises(ModelFailed, match="It broke"):
            talk("openai", Refusal("limited"), fallbacks=[second[1]]).say()


@pytest.mark.parametrize(
    ("name", "extra"), [("google_genai:gemini", "google"), ("ollama:llama", "ollama"), ("anthropic:m", "anthropic")]
)
def test_a_package_that_is_missing_is_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateful_agent.graph.models.find_spec", lambda package: None)
    with pytest.raises(Misconfigured, match=re.escape(f"pip install 'stateful-agent[{extra}]'")):
        chat_model(name)
