"""A response that runs in the background is had later, and can be cancelled, from any server on the database."""

import time
from collections.abc import Callable
from threading import Event
from typing import Any

import openai
import psycopg
import pytest
from asking import ask, client, ended, head, received
from conftest import eventually, http
from databases import value


class TestBackground:
    def test_the_id_comes_at_once_and_the_answer_later(self, talking: str, there: str, go_on: Event) -> None:
        begun = ask(talking, background=True)
        assert begun.status in ("queued", "in_progress")
        assert begun.output == []
        assert begun.custom_outputs == begun.metadata == {"thread_id": "t"}
        assert begun.tools == []
        go_on.set()
        response = ended(there, begun.id)
        assert (response.id, response.status, response.output_text) == (begun.id, "completed", "a b c d e f g h ")
        assert response.custom_outputs["checkpoint_id"]
        assert received(there) == ["hi", "a b c d e f g h "]

    def test_what_it_has_said_so_far(self, talking: str, there: str) -> None:
        begun = ask(talking, background=True)
        eventually(lambda: client(there).responses.retrieve(begun.id).status == "in_progress")

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"input": "hi", "custom_inputs": {"thread_id": "t", "checkpoint_id": "unknown"}}, 404),
            ({"input": [], "custom_inputs": {"thread_id": "t"}}, 400),
            ({"input": "hi", "custom_inputs": {"thread_id": ""}}, 400),
            ({"input": "hi", "store": False}, 400),
            ({"input": "hi", "store": False, "stream": True}, 400),
            ({"input": [], "custom_inputs": {"operation": "list_threads"}}, 400),
        ],
    )
    def test_what_is_refused_is_refused_at_once(
        self, here: str, database: str, body: dict[str, Any], status: int
    ) -> None:
        ask(here)
        refused = http.post(f"{here}/responses", json=body | {"background": True})
        assert refused.status_code == status
        time.sleep(0.5)
        with psycopg.connect(database) as connection:
            assert value(connection, "SELECT count(*) FROM agent_turns") == 1

    def test_background_is_true_or_false(self, here: str) -> None:
        refused = http.post(f"{here}/responses", json={"input": "hi", "background": "yes"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "background")

    def test_on_a_busy_thread_it_waits(self, talking: str, there: str, go_on: Event) -> None:
        first = ask(talking, background=True)
        second = ask(there, text="me too", background=True)
        assert second.status == "queued"
        go_on.set()
        assert ended(talking, second.id).status == "completed"
        assert ended(talking, first.id).status == "completed"
        assert received(talking)[::2] == ["hi", "me too"]

    def test_one_that_waited_too_long_says_so_when_asked(self, talking: str, start: Callable[..., str]) -> None:
        ask(talking, background=True)
        hasty = start(thread_timeout=0.1)
        response = ended(talking, ask(hasty, text="me too", background=True).id)
        assert (response.status, response.error.code) == ("failed", "thread_busy")


class TestCancelling:
    def test_from_another_server(self, talking: str, there: str) -> None:
        begun = ask(talking, background=True)
        eventually(lambda: http.get(f"{there}/threads/t/state").status_code == 200)
        assert client(there).responses.cancel(begun.id).status == "cancelled"
        cancelled = ended(there, begun.id)
        assert (cancelled.status, cancelled.custom_outputs["checkpoint_id"]) == ("cancelled", head(there))
        assert ask(there, text="go on").output_text == "a b c d e f g h "
        assert received(there) == ["hi", "go on", "a b c d e f g h "]

    def test_who_listens_is_told(self, talking: str, there: str) -> None:
        stream = ask(talking, stream=True)
        response_id = next(stream).response.id
        client(there).responses.cancel(response_id)
        with pytest.raises(openai.APIError, match="was cancelled"):
            list(stream)

    def test_one_that_waits_for_its_thread(self, talking: str, there: str, go_on: Event) -> None:
        first, second = ask(talking, background=True), ask(talking, text="me too", background=True)
        assert client(there).responses.cancel(second.id).status == "cancelled"
        go_on.set()
        assert ended(there, first.id).status == "completed"
        assert received(there) == ["hi", "a b c d e f g h "]

    def test_one_that_has_ended_stays_as_it_is(self, here: str, there: str) -> None:
        answer = ask(here)
        assert client(here).responses.cancel(answer.id).status == "completed"
        ended(there, answer.id)
        assert client(there).responses.cancel(answer.id).output_text == answer.output_text
