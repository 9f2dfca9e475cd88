"""The built-in agent on models of each provider, through LangChain's own classes and the providers' own clients."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from anthropic_api import Anthropic
from bedrock_api import Bedrock
from conftest import ROOT, text_of
from langchain_core.tools import tool
from model_apis import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    Answer,
    Call,
    Cited,
    ModelApi,
    Refusal,
    Reply,
    Silence,
    Thinking,
)
from openai_apis import ChatCompletions, DatabricksServing, Responses
from walking import user

from stateful_agent.errors import (
    AgentError,
    ContextTooLong,
    Misconfigured,
    ModelFailed,
    ModelRateLimited,
    ModelRefused,
    ModelTimedOut,
)
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.models import chat_model

Make = Callable[..., Any]


@dataclass(frozen=True)
class Provider:
    """How the agent finds a provider's API."""

    api: type[ModelApi]
    model: str
    environment: dict[str, str]
    use_responses_api: bool = False


PROVIDERS = {
    "databricks": Provider(
        DatabricksServing, "databricks:m", {"DATABRICKS_HOST": "{url}", "DATABRICKS_TOKEN": "dapi5ecret5ecret"}
    ),
    "openai": Provider(
        ChatCompletions, "openai:m", {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "sk-5ecret5ecret"}
    ),
    "azure_openai": Provider(
        ChatCompletions,
        "azure_openai:m",
        {
            "AZURE_OPENAI_ENDPOINT": "{url}",
            "AZURE_OPENAI_API_KEY": "5ecret",
            "OPENAI_API_VERSION": "2025-03-01-preview",
        },
    ),
    "anthropic": Provider(
        Anthropic, "anthropic:m", {"ANTHROPIC_API_URL": "{url}", "ANTHROPIC_API_KEY": "sk-5ecret5ecret"}
    ),
    "bedrock_converse": Provider(
        Bedrock,
        "bedrock_converse:anthropic.claude-sonnet-4-5-20250929-v1:0",
        {
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "{url}",
            "AWS_ACCESS_KEY_ID": "AKIA5ECRET5ECRET",
            "AWS_SECRET_ACCESS_KEY": "5ecret",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    ),
}
for name in ("databricks", "openai", "azure_openai"):
    chat = PROVIDERS[name]
    PROVIDERS[f"{name} responses"] = replace(chat, api=Responses, use_responses_api=True)
RESPONSES = [name for name, provider in PROVIDERS.items() if provider.use_responses_api]
ALL = list(PROVIDERS)
ASPECTS = {
    "text, token by token": ALL,
    "calls of tools, also at once": ALL,
    "usage, with cached tokens": ALL,
    "the prompt begins as before: after turns, forks, replays": ALL,
    "what is to be cached is marked": ["anthropic", "bedrock_converse"],
    "thoughts are told": ["databricks", "anthropic", "bedrock_converse", *RESPONSES],
    "thoughts go back with their signature": ["anthropic", "bedrock_converse", *RESPONSES],
    "thoughts of another provider do not": ALL,
    "citations of pages": ["openai", "azure_openai", "anthropic", "bedrock_converse", *RESPONSES],
    "citations of documents": ["anthropic", "bedrock_converse"],
    "images": ALL,
    "images by their URL": [name for name in ALL if name != "bedrock_converse"],
    "files: PDF, text": ALL,
    "files by their URL": ["anthropic", *RESPONSES],
    "an answer that is cut off, or refused": ALL,
    "failures, before the answer and amid it": ALL,
    "a stream that ends early": ALL,
    "retries, silence": ALL,
}
"""What works with which providers. The tests below take it from here, and docs/models.md shows it."""


@tool
def look(place: str) -> str:
    """Look at a place."""
    return f"{place} is fine"


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Talk:
    """An agent on a provider's API."""

    api: ModelApi
    agent: Any

    def events(self, text: str = "hello", **ref: Any) -> list[Any]:
        request = {"input": [user(text)], "custom_inputs": {"thread_id": "t"} | ref}
        return [event.model_dump() for event in self.agent.predict_stream(request)]

    def say(self, text: str = "hello", **ref: Any) -> Any:
        request = {"input": [user(text)], "custom_inputs": {"thread_id": "t"} | ref}
        return self.agent.predict(request).model_dump(exclude_none=True)


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


Talks = Callable[..., Talk]


class TestAnAnswer:
    def test_comes_as_it_is_written(self, talk: Talks, provider: str) -> None:
        began = time.monotonic()
        stream = talk(provider, Reply(("an answer of some length",), pause=0.15)).agent.predict_stream(
            {"input": [user("hello")]}
        )
        deltas = [
            (event.delta, time.monotonic() - began) for event in stream if hasattr(event, "delta") and event.delta
        ]
        assert "".join(text for text, _ in deltas) == "an answer of some length"
        assert deltas[-1][1] - deltas[0][1] > 0.2

    def test_usage_is_counted_once(self, talk: Talks, provider: str) -> None:
        response = talk(provider, Reply(cached=30)).say()
        usage = response["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (INPUT_TOKENS, OUTPUT_TOKENS)
        assert usage["total_tokens"] == INPUT_TOKENS + OUTPUT_TOKENS
        assert usage["input_tokens_details"]["cached_tokens"] == 30
        tells = provider not in ("anthropic", "bedrock_converse")  # which count them as output, and do not say so
        assert usage["output_tokens_details"]["reasoning_tokens"] == (REASONING_TOKENS if tells else 0)

    def test_calls_at_once(self, talk: Talks, provider: str) -> None:
        calls = [Call("look", json.dumps({"place": place}), f"call_{place}") for place in ("SF", "LA")]
        talking = talk(provider, Reply(("Let me see.", *calls)), Reply())
        response = talking.say()
        assert [item["type"] for item in response["output"]].count("function_call") == 2
        assert text_of(response).endswith("an answer")
        sent = json.dumps(talking.api.requests[-1])
        assert "SF is fine" in sent
        assert "LA is fine" in sent

    def test_what_is_sent_begins_as_before(self, talk: Talks, provider: str) -> None:
        call = Reply(("Hm.", Call("look", '{"place": "SF"}')))
        talking = talk(provider, call, Reply(), Reply(("another",)), Reply(("third",)))
        first = talking.say("one")["custom_outputs"]
        talking.say("two")
        talking.say("two", **first)
        history = talking.agent.get_checkpoint_history("t")
        asking = next(entry["checkpoint_id"] for entry in history if entry["next_nodes"] == ["model"])
        talking.agent.predict({"input": [], "custom_inputs": {"thread_id": "t", "checkpoint_id": asking}})
        messages = [json.dumps(request.get("messages") or request["input"]) for request in talking.api.requests]
        assert messages[2] == messages[3] == messages[4]
        for earlier, later in pairwise(messages[:3]):
            assert later.startswith(earlier[:-1])

    def test_cache_points_are_marked_where_a_provider_wants_them(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply(), prompt_caching=True)
        talking.say("one")
        talking.say("two")
        sent = json.dumps(talking.api.requests[-1])
        is_marked = "cache_control" in sent or "cachePoint" in sent
        assert is_marked == (provider in ASPECTS["what is to be cached is marked"])
        talking = talk(provider, Reply())
        talking.say("three")
        assert "cache" not in json.dumps(talking.api.requests[-1])

    @pytest.mark.parametrize("provider", ASPECTS["thoughts are told"])
    def test_thoughts_are_told_and_sent_back_with_their_signature(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply((Thinking("Let me think."), "Yes.")), Reply())
        response = talking.say("one")
        assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
        assert response["output"][0]["summary"][0]["text"] == "Let me think."
        assert text_of(response) == "Yes."
        talking.say("two")
        goes_back = provider in ASPECTS["thoughts go back with their signature"]
        assert ("c2lnbmVk" in json.dumps(talking.api.requests[-1])) == goes_back

    @pytest.mark.parametrize("provider", ASPECTS["citations of pages"])
    def test_citations_are_annotations(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply(("I read: ", Cited("It is so."), " The end.")), Reply())
        events = talking.events("one")
        annotation = {
            "type": "url_citation",
            "url": "https://example.com/a",
            "title": "A page",
            "start_index": 8,
            "end_index": 17,
        }
        [added] = [event for event in events if event["type"] == "response.output_text.annotation.added"]
        assert (added["annotation_index"], added["annotation"]) == (0, annotation)
        said = {"type": "output_text", "text": "I read: It is so. The end.", "annotations": [annotation]}
        assert events[-1]["response"]["output"][0]["content"] == [said]
        assert talking.agent.get_checkpoint_state("t")["messages"][1]["content"] == [said]
        assert text_of(talking.say("two")) == "an answer"

    @pytest.mark.parametrize("provider", ASPECTS["citations of documents"])
    def test_citations_of_documents(self, talk: Talks, provider: str) -> None:
        [content] = talk(provider, Reply((Cited("It is so.", None, "notes.pdf"),))).say()["output"][0]["content"]
        named = {"file_id": "document-0", "filename": "notes.pdf", "index": 9}
        assert content["annotations"] == [{"type": "file_citation", **named}]

    def test_others_thoughts_are_not_sent(self, talk: Talks, provider: str) -> None:
        talk("anthropic", Reply((Thinking("A secret thought."), "Yes."))).say("one")
        talking = talk("bedrock_converse" if provider == "anthropic" else provider, Reply())
        assert text_of(talking.say("two")) == "an answer"
        sent = json.dumps(talking.api.requests[-1])
        assert "Yes." in sent
        assert "secret thought" not in sent

    def test_that_is_cut_off_is_incomplete(self, talk: Talks, provider: str) -> None:
        response = talk(provider, Reply(stop="length")).events()[-1]["response"]
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})

    def test_that_is_refused_is_not_completed_as_an_answer(self, talk: Talks, provider: str) -> None:
        response = talk(provider, Reply(("I cannot help.",), stop="refusal")).events()[-1]["response"]
        kinds = [part["type"] for item in response["output"] for part in item["content"]]
        assert response["status"] == "incomplete" or kinds == ["refusal"]


class TestAnImage:
    def ask(self, talking: Talk, url: str) -> Any:
        parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": url}]
        request = {"input": [{"role": "user", "content": parts}], "custom_inputs": {"thread_id": "t"}}
        return talking.agent.predict(request).model_dump(exclude_none=True)

    def test_as_data(self, talk: Talks, provider: str) -> None:
        pixel = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
        talking = talk(provider, Reply())
        assert text_of(self.ask(talking, f"data:image/gif;base64,{pixel}")) == "an answer"
        assert pixel in json.dumps(talking.api.requests[-1])

    def test_by_its_url(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply())
        if provider in ASPECTS["images by their URL"]:
            assert text_of(self.ask(talking, "https://example.com/a.gif")) == "an answer"
            assert "https://example.com/a.gif" in json.dumps(talking.api.requests[-1])
        else:
            with pytest.raises(ModelRefused, match="data URL"):
                self.ask(talking, "https://example.com/a.gif")
            assert text_of(talking.say("then not")) == "an answer"


class TestAFile:
    PDF = "JVBERi0xLjQKJcOkw7zDtsOf"

    def ask(self, talking: Talk, **file: str) -> Any:
        parts = [{"type": "input_text", "text": "What is in it?"}, {"type": "input_file"} | file]
        request = {"input": [{"role": "user", "content": parts}], "custom_inputs": {"thread_id": "t"}}
        return talking.agent.predict(request).model_dump(exclude_none=True)

    def sent(self, talking: Talk) -> Any:
        """The last part of the last message that the provider was sent."""
        request = talking.api.requests[-1]
        return (request.get("messages") or request["input"])[-1]["content"][-1]

    def test_as_data(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply())
        data = f"data:application/pdf;base64,{self.PDF}"
        assert text_of(self.ask(talking, file_data=data, filename="a.pdf")) == "an answer"
        sent = self.sent(talking)
        if provider == "anthropic":
            source = {"type": "base64", "media_type": "application/pdf", "data": self.PDF}
            assert sent == {"type": "document", "source": source, "title": "a.pdf"}
        elif provider == "bedrock_converse":
            assert sent == {"document": {"format": "pdf", "source": {"bytes": self.PDF}, "name": "a-pdf"}}
        else:
            file = {"file_data": data, "filename": "a.pdf"}
            chat = {"type": "file", "file": file}
            assert sent == ({"type": "input_file"} | file if provider in RESPONSES else chat)
        first = json.dumps(sent)
        talking.say("and now?")
        assert first in json.dumps(talking.api.requests[-1])

    def test_of_text(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply())
        self.ask(talking, file_data="data:text/plain;base64,aGVsbG8=", filename="notes.txt")
        sent = self.sent(talking)
        if provider == "anthropic":
            assert sent["source"] == {"type": "text", "media_type": "text/plain", "data": "hello"}
        elif provider == "bedrock_converse":
            assert sent == {"document": {"format": "txt", "source": {"bytes": "aGVsbG8="}, "name": "notes-txt"}}
        else:
            assert "data:text/plain;base64,aGVsbG8=" in json.dumps(sent)

    def test_by_its_url(self, talk: Talks, provider: str) -> None:
        talking = talk(provider, Reply())
        url = "https://example.com/a.pdf"
        if provider in ASPECTS["files by their URL"]:
            assert text_of(self.ask(talking, file_url=url)) == "an answer"
            assert url in json.dumps(self.sent(talking))
        else:
            with pytest.raises(ModelRefused, match="file_data"):
                self.ask(talking, file_url=url)
            assert text_of(talking.say("then not")) == "an answer"

    def test_that_bedrock_does_not_take(self, talk: Talks) -> None:
        with pytest.raises(ModelRefused, match="application/zip"):
            self.ask(talk("bedrock_converse", Reply()), file_data="data:application/zip;base64,UEsDBA==")


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


def test_the_docs_show_what_works() -> None:
    rows = [["", *ALL], ["---"] * (1 + len(ALL))]
    rows += [[aspect, *("yes" if name in those else "-" for name in ALL)] for aspect, those in ASPECTS.items()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    page = (ROOT / "docs" / "models.md").read_text()
    assert page.partition("<!-- providers -->\n")[2].partition("<!-- end -->")[0] == table, f"paste:\n{table}"


@pytest.mark.parametrize(
    ("name", "extra"), [("google_genai:gemini", "google"), ("ollama:llama", "ollama"), ("anthropic:m", "anthropic")]
)
def test_a_package_that_is_missing_is_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stateful_agent.graph.models.find_spec", lambda package: None)
    with pytest.raises(Misconfigured, match=re.escape(f"pip install 'stateful-agent[{extra}]'")):
        chat_model(name)
