"""One call is one turn, however often its client sends it. The same text in two calls is two turns."""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Any

import httpx
import openai
import psycopg
import pytest
from conftest import eventually, http, say
from databases import value
from listening_servers import Alternating, answers_are_delivered, event_log_is_complete, served
from scripted import Scripted
from walking import execute

from stateful_agent.errors import InvalidRequest, TurnGone
from stateful_agent.graph.build import build_graph
from stateful_agent.identity import User
from stateful_agent.responses.request import read_request
from stateful_agent.runs.event_log import EventLog
from stateful_agent.runs.idempotency import attempt_of
from stateful_agent.runs.runs import Runs

Make = Callable[..., Any]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def model() -> Scripted:
    return Scripted(*"abcdefgh", received=[])


@pytest.fixture
def go_on(model: Scripted) -> Event:
    """The model says nothing until this is set."""
    event = Event()
    model.words = (event.is_set, *model.words)
    return event


@pytest.fixture
def urls(make_agent: Make, model: Scripted) -> Iterator[list[str]]:
    """Two servers on one database, with the same model."""
    with ExitStack() as running:
        yield [running.enter_context(served(make_agent(build_graph(model, [])))) for _ in range(2)]


def post(url: str, thread_id: str | None = "t", text: str = "hi", headers: Any = None, **body: Any) -> httpx.Response:
    ref = {"thread_id": thread_id} if thread_id else {}
    whole = {"input": text, "custom_inputs": ref} | body
    return http.post(f"{url}/responses", json=whole, headers=headers, timeout=20)


def retried(count: int = 1) -> dict[str, str]:
    return {"x-stainless-retry-count": str(count)}


def questions(url: str, thread_id: str = "t") -> list[str]:
    messages = http.get(f"{url}/threads/{thread_id}/state").json()["messages"]
    return [message["content"][0]["text"] for message in messages if message["role"] == "user"]


class TestTimeOuts:
    """The client of OpenAI gives up after a while, and tries again."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_retry_gets_the_answer_of_the_first_attempt(self, urls: list[str], model: Scripted, stream: bool) -> None:
        servers = Alternating(*urls)
        client = openai.OpenAI(
            base_url=urls[0], api_key="none", timeout=1, max_retries=9, http_client=httpx.Client(transport=servers)
        )
        post(urls[0], "warm-up")  # the first turn of all takes longer
        model.received.clear()
        model.words = (lambda: len(servers.requests) > 1, *model.words)
        answer: Any = client.responses.create(
            model="m", input="hi", stream=stream, extra_body={"custom_inputs": {"thread_id": "t"}}
        )
        text = list(answer)[-1].response.output_text if stream else answer.output_text
        assert text == "a b c d e f g h "
        assert len(servers.requests) > 1
        assert len(model.received) == 1
        assert questions(urls[0]) == ["hi"]

    def test_a_client_that_gave_up_has_left_one_turn(self, urls: list[str], go_on: Event) -> None:
        servers = Alternating(*urls)
        client = openai.OpenAI(
            base_url=urls[0], api_key="none", timeout=0.3, http_client=httpx.Client(transport=servers)
        )
        with pytest.raises(openai.APITimeoutError):
            client.responses.create(model="m", input="hi", extra_body={"custom_inputs": {"thread_id": "t"}})
        go_on.set()
        assert len(servers.requests) == 3
        assert post(urls[0], text="next").status_code == 200
        assert questions(urls[0]) == ["hi", "next"]


class TestRetries:
    def test_after_the_end_it_gets_the_result_that_nobody_heard(
        self, urls: list[str], model: Scripted, go_on: Event, database: str
    ) -> None:
        with pytest.raises(httpx.TimeoutException):
            http.post(f"{urls[0]}/responses", json={"input": "hi", "custom_inputs": {"thread_id": "t"}}, timeout=0.5)
        go_on.set()
        event_log_is_complete(database)
        assert len(http.get(f"{urls[0]}/threads/t/state").json()["messages"]) == 2
        assert post(urls[1], headers=retried()).status_code == 200
        assert len(model.received) == 1

    def test_one_who_waits_for_the_thread_is_joined_too(
        self, urls: list[str], model: Scripted, go_on: Event, database: str
    ) -> None:
        with ThreadPoolExecutor(3) as callers, psycopg.connect(database, autocommit=True) as connection:
            first = callers.submit(post, urls[0], text="first")
            eventually(lambda: model.received)
            waiting = callers.submit(post, urls[0], text="second")
            eventually(lambda: value(connection, "SELECT count(*) FROM agent_waiting"))
            retry = callers.submit(post, urls[1], text="second", headers=retried())
            time.sleep(0.5)  # it arrives
            go_on.set()
            assert retry.result().json() == waiting.result().json() != first.result().json()
        assert questions(urls[0]) == ["first", "second"]

    def test_of_what_was_refused_is_heard(
        self, make_agent: Make, urls: list[str], model: Scripted, go_on: Event, database: str
    ) -> None:
        with (
            served(make_agent(thread_timeout=0.1)) as hasty,
            ThreadPoolExecutor(1) as callers,
            psycopg.connect(database, autocommit=True) as connection,
        ):
            callers.submit(post, urls[0], text="first")
            eventually(lambda: model.received)
            assert post(hasty, text="second").status_code == 409
            eventually(lambda: value(connection, "SELECT count(*) FROM agent_turns") == 1)  # clients pause, too
            go_on.set()
            assert post(urls[0], text="second", headers=retried()).status_code == 200
        assert questions(urls[0]) == ["first", "second"]

    @pytest.mark.parametrize("way", ["respond", "start_in_background"])
    def test_of_what_is_refused_at_that_moment_is_to_come_again(self, agent: Any, database: str, way: str) -> None:
        say(agent, "hello", thread_id="t")
        body = {"input": "hi", "custom_inputs": {"thread_id": "t"}}
        key = {"idempotency-key": "my key"}
        first, retry = (attempt_of(key, body, None, sha256) for _ in range(2))

        class Forgetful(EventLog):
            """Its first turn was refused, and goes just before anybody can look at it."""

            async def read(self, response_id: str, user: User, after: int = -1) -> Any:
                execute(database, "DELETE FROM agent_turns")
                return await super().read(response_id, user, after)

        async def still_there() -> bool:
            return False

        async def be_answered() -> None:
            note = "INSERT INTO agent_turns VALUES (%(id)s, 't', gen_random_uuid(), %(digest)s, now(), 'infinity')"
            execute(database, note, id=first.response_id, digest=first.digest)
            log = Forgetful(agent.database, agent.store, agent.loop, 3600)
            try:
                await getattr(Runs(agent, log), way)(read_request(body), retry, None, still_there)
            finally:
                await log.close()

        with pytest.raises(TurnGone) as refused:
            agent.loop.run(be_answered())
        assert refused.value.should_retry

    def test_of_what_failed_gets_the_failure(self, make_agent: Make, model: Scripted, go_on: Event) -> None:
        model.words, model.failure = model.words[:1], TimeoutError("too slow")
        with served(make_agent(build_graph(model, []))) as url:
            with pytest.raises(httpx.TimeoutException):
                http.post(f"{url}/responses", json={"input": "hi", "custom_inputs": {"thread_id": "t"}}, timeout=0.5)
            go_on.set()
            for count in (1, 2):
                answer = post(url, headers=retried(count))
                assert (answer.status_code, answer.json()["error"]["code"]) == (504, "model_timed_out")
            assert len(model.received) == 1

    def test_of_an_edit(self, make_agent: Make, urls: list[str], database: str) -> None:
        head = say(make_agent(), "hello", thread_id="t")["custom_outputs"]
        ref = {"thread_id": "t", "checkpoint_id": head["checkpoint_id"]}
        edit = {"operation": "update_checkpoint_state", "new_messages": [{"role": "user", "content": "x"}], **ref}
        body = {"input": [], "custom_inputs": edit}
        with pytest.raises(httpx.ReadTimeout):
            http.post(f"{urls[0]}/responses", json=body, timeout=httpx.Timeout(5, read=0.001))
        eventually(lambda: len(http.get(f"{urls[0]}/threads/t/history").json()) == 4)
        event_log_is_complete(database)
        assert http.post(f"{urls[1]}/responses", json=body, headers=retried()).status_code == 200
        assert len(http.get(f"{urls[0]}/threads/t/history").json()) == 4


class TestTheSameAtOnce:
    def test_retries_join_the_turn_that_runs(self, urls: list[str], model: Scripted, go_on: Event) -> None:
        with ThreadPoolExecutor(4) as callers:
            first = callers.submit(post, urls[0])
            eventually(lambda: model.received)
            retries = [callers.submit(post, url, headers=retried()) for url in (*urls, urls[0])]
            time.sleep(1)  # all of them arrive
            go_on.set()
        assert {answer.result().json()["id"] for answer in retries} == {first.result().json()["id"]}
        assert len(model.received) == 1

    def test_what_is_not_known_to_be_a_retry_is_another_turn(
        self, urls: list[str], model: Scripted, go_on: Event
    ) -> None:
        with ThreadPoolExecutor(2) as callers:
            first = callers.submit(post, urls[0])
            eventually(lambda: model.received)
            second = callers.submit(post, urls[1])
            time.sleep(0.5)  # it arrives
            go_on.set()
        assert first.result().json()["id"] != second.result().json()["id"]
        assert questions(urls[0]) == ["hi", "hi"]

    def test_a_retry_joins_the_one_that_runs_and_none_that_waits_in_vain(
        self, urls: list[str], model: Scripted, database: str
    ) -> None:
        model.words = ("a", Event().is_set)

        def id_at(url: str, **more: Any) -> Any:
            client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
            ref = {"custom_inputs": {"thread_id": "t"}}
            stream: Any = client.responses.create(model="m", input="hi", stream=True, extra_body=ref, **more)
            return next(stream).response.id

        first = id_at(urls[0])
        execute(
            database,
            "INSERT INTO agent_turns (response_id, thread_id, holder, digest, alive_until) "
            "SELECT 'resp_2', thread_id, gen_random_uuid(), digest, now() + interval '2 seconds' FROM agent_turns",
            "INSERT INTO agent_waiting (thread_id, holder, waits_until) "
            "SELECT thread_id, holder, now() + interval '1 minute' FROM agent_turns WHERE response_id = 'resp_2'",
        )
        assert id_at(urls[1], extra_headers=retried()) == first

    def test_other_words_wait_for_their_turn(self, urls: list[str]) -> None:
        with ThreadPoolExecutor(2) as callers:
            answers = list(callers.map(post, urls, ["t", "t"], ["one", "two"]))
        assert len({answer.json()["id"] for answer in answers}) == 2
        assert sorted(questions(urls[0])) == ["one", "two"]


class TestRepeats:
    def test_who_says_it_again_is_heard_again(self, urls: list[str]) -> None:
        for url in urls:
            post(url, text="again")
        assert questions(urls[0]) == ["again", "again"]

    def test_also_if_only_the_retry_of_it_gets_through(self, urls: list[str], database: str) -> None:
        post(urls[0], text="again")
        answers_are_delivered(database)
        post(urls[1], text="again", headers=retried())
        assert questions(urls[0]) == ["again", "again"]

    def test_also_if_the_event_log_had_its_end_before_its_caller(self, agent: Any, database: str) -> None:
        body = {"input": "again", "custom_inputs": {"thread_id": "t"}}

        async def still_there() -> bool:
            return False

        async def be_answered() -> None:
            log = EventLog(agent.database, agent.store, agent.loop, 3600)
            attempt = attempt_of({}, body, None, sha256)
            async for batch in Runs(agent, log).stream(read_request(body), attempt, None, still_there):
                if batch[-1]["type"] == "response.completed":
                    await log.store()
            await log.close()

        agent.loop.run(be_answered())
        with psycopg.connect(database) as connection:
            assert value(connection, "SELECT is_delivered FROM agent_turns")


class TestKeys:
    def test_one_key_is_one_turn_also_without_a_thread(self, urls: list[str], model: Scripted, database: str) -> None:
        key = {"Idempotency-Key": "my key"}
        with ThreadPoolExecutor(4) as callers:
            answers = [answer.json() for answer in callers.map(post, [*urls, *urls], [None] * 4, "x" * 4, [key] * 4)]
        event_log_is_complete(database)
        answers += [post(url, None, "x", key).json() for url in urls]
        assert answers == [answers[0]] * 6
        assert len(model.received) == 1

    def test_other_keys_are_other_turns(self, urls: list[str]) -> None:
        answers = [post(url, None, "x", {"Idempotency-Key": url}).json() for url in urls]
        assert answers[0]["custom_outputs"]["thread_id"] != answers[1]["custom_outputs"]["thread_id"]

    def test_with_other_words_it_is_refused(self, urls: list[str]) -> None:
        key = {"Idempotency-Key": "my key"}
        post(urls[0], text="one", headers=key)
        for url in urls:
            refused = post(url, text="two", headers=key)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert questions(urls[0]) == ["one"]

    def test_other_users_have_other_keys(self) -> None:
        mine, theirs = (
            attempt_of({"idempotency-key": "k"}, {"input": "x", "context": {"user_id": user}}, None, sha256)
            for user in ("alice", "bob")
        )
        assert mine.response_id != theirs.response_id
        assert mine.response_id != attempt_of({"idempotency-key": "k"}, {"input": "x"}, "alice", sha256).response_id

    def test_a_key_that_is_too_long(self) -> None:
        with pytest.raises(InvalidRequest, match="255"):
            attempt_of({"idempotency-key": "k" * 256}, {}, None, sha256)


def test_a_body_is_the_same_whether_it_is_streamed_or_not() -> None:
    streamed, other = ({"input": "x", "custom_inputs": {"thread_id": "t"}} | more for more in ({"stream": True}, {}))
    assert attempt_of({}, streamed, None, sha256).digest == attempt_of({}, other, None, sha256).digest


@pytest.mark.parametrize(("header", "is_retry"), [({}, False), (retried(0), False), (retried(2), True)])
def test_what_is_known_to_be_a_retry(header: dict[str, str], is_retry: bool) -> None:
    assert attempt_of(header, {}, None, sha256).is_retry is is_retry
