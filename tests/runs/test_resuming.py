"""A response can be had again while it is made and for a while after, from any server on the database."""

from collections.abc import Callable
from threading import Event

import openai
import pytest
from asking import WORDS, ask, client, ended, head
from conftest import http
from scripted import Scripted


class TestElsewhere:
    """How a response has ended is final, and every process answers so at once."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_answer(self, here: str, there: str, stream: bool) -> None:
        for _ in range(10):
            answer = [*ask(here, stream=True)][-1].response if stream else ask(here)
            assert client(there).responses.retrieve(answer.id) == answer

    def test_a_cancellation(self, talking: str, there: str) -> None:
        for _ in range(3):
            begun = ask(talking, background=True)
            cancelled = client(talking).responses.cancel(begun.id)
            assert cancelled.status == "cancelled"
            assert client(there).responses.retrieve(begun.id) == cancelled

    def test_what_runs_does_not_go_back(self, start: Callable[..., str], there: str) -> None:
        here = start(Scripted(*WORDS, pause=0.1))
        begun = ask(here, background=True)
        seen = [begun.status]
        while seen[-1] in ("queued", "in_progress"):
            seen += [client(url).responses.retrieve(begun.id).status for url in (here, there)]
        order = ["queued", "in_progress", "completed"]
        assert [order.index(status) for status in seen] == sorted(order.index(status) for status in seen)


class TestResuming:
    def test_a_cut_stream_goes_on_elsewhere_while_it_is_said(self, talking: str, there: str, go_on: Event) -> None:
        stream = ask(talking, stream=True)
        events = [next(stream) for _ in range(4)]
        stream.close()
        response_id = events[0].response.id
        assert client(talking).responses.retrieve(response_id).status == "in_progress"
        rest = client(there).responses.retrieve(response_id, stream=True, starting_after=events[-1].sequence_number)
        events.append(next(rest))
        go_on.set()
        events += rest
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == "a b c d e f g h "

    def test_all_events_are_the_same_wherever_and_whenever(self, start: Callable[..., str], there: str) -> None:
        here = start(Scripted(*WORDS, pause=0.1))  # so that they are stored little by little
        events = list(ask(here, stream=True))
        response_id = events[0].response.id
        for url in (here, there):
            ended(url, response_id)
            assert list(client(url).responses.retrieve(response_id, stream=True)) == events
            assert list(client(url).responses.retrieve(response_id, stream=True, starting_after=len(events) - 1)) == []
            assert client(url).responses.retrieve(response_id) == events[-1].response

    def test_an_answer_that_was_no_stream(self, here: str, there: str) -> None:
        answer = ask(here)
        assert ended(there, answer.id).output_text == answer.output_text

    def test_a_failure(self, start: Callable[..., str], there: str) -> None:
        failing = start(Scripted("a", failure=TimeoutError("too slow")))
        stream = ask(failing, stream=True)
        response_id = next(stream).response.id
        with pytest.raises(openai.APIError, match="too slow"):
            list(stream)
        response = ended(there, response_id)
        assert (response.status, response.error.code) == ("failed", "model_timed_out")
        assert response.custom_outputs["checkpoint_id"] == response.metadata["checkpoint_id"] == head(there)
        with pytest.raises(openai.APIError, match="too slow"):
            list(client(there).responses.retrieve(response_id, stream=True))

    @pytest.mark.parametrize("query", ["stream=yes", "starting_after=1", "stream=true&starting_after=-1"])
    def test_malformed(self, here: str, query: str) -> None:
        response_id = ask(here).id
        assert http.get(f"{here}/v1/responses/{response_id}?{query}").status_code == 400
