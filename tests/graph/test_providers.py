"""The built-in agent on models of each provider, through LangChain's own classes and the providers' own clients."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from conftest import ROOT, text_of
from model_apis import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    Call,
    Cited,
    Reply,
    Thinking,
)
from providers import ALL, ASPECTS, RESPONSES, Talk, Talks
from walking import user

from stateful_agent.errors import (
    ModelRefused,
)


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


def test_the_docs_show_what_works() -> None:
    rows = [["", *ALL], ["---"] * (1 + len(ALL))]
    rows += [[aspect, *("yes" if name in those else "-" for name in ALL)] for aspect, those in ASPECTS.items()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    page = (ROOT / "docs" / "models.md").read_text()
    assert page.partition("<!-- providers -->\n")[2].partition("<!-- end -->")[0] == table, f"paste:\n{table}"
