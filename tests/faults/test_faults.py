"""What happens to running servers: they are killed, hung up on, and lose their database. Nothing acknowledged is lost.

Two servers share a database of their own. One gives up on it after 2 s; the other is patient, but has two connections.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cluster import Cluster
from conftest import eventually, with_agent
from listening import Stream
from served import Server, answered, received

from stateful_agent.turn import UNFINISHED


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("faults") / "postgres")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def servers(logged_model: str, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("servers")
    model = with_agent(logged_model, Path(__file__).with_name("strict_agent.py"), folder)
    hasty = Server(model, folder / "hasty", DATABASE_URL=cluster.url_for("hasty"), DATABASE_TIMEOUT="2")
    patient = Server(model, folder / "patient", DATABASE_URL=cluster.url, DATABASE_POOL_SIZE="2")
    with ThreadPoolExecutor() as starting:
        list(starting.map(Server.start, (hasty, patient)))
    yield [hasty, patient]
    for server in (hasty, patient):
        server.stop()


@pytest.fixture(scope="module")
def hasty(servers: list[Server]) -> Server:
    return servers[0]


@pytest.fixture(scope="module")
def patient(servers: list[Server]) -> Server:
    return servers[1]


class TestKill9:
    """Turns are at different points when their server is killed. Each goes on at the server that follows."""

    @pytest.fixture(scope="class")
    def killed(self, hasty: Server, patient: Server) -> Server:
        for thread_id in ("before the first word", "replayed before it"):
            Stream(hasty.url, thread_id, "think first")
        for thread_id in ("amid words", "taken over"):
            Stream(hasty.url, thread_id, "slowly first").until("response.output_text.delta")
        for thread_id in ("amid tools", "replayed amid tools"):
            stream = Stream(hasty.url, thread_id, "call fast slow fast")
            for _ in range(3 + 2):  # calls, and results
                stream.until("response.output_item.done")
        Stream(hasty.url, "after the end", "first").until("response.completed")
        Stream(hasty.url, "asked", "call careful fast").until("response.completed")
        hasty.kill()
        killed_at = time.monotonic()
        assert patient.say("taken over", "second") == ["human: slowly first", "human: second"]
        assert time.monotonic() - killed_at < 10
        hasty.start()
        return hasty

    def test_before_the_first_word(self, killed: Server) -> None:
        assert killed.say("before the first word", "second") == ["human: think first", "human: second"]

    def test_replayed_before_the_first_word(self, killed: Server) -> None:
        assert received(answered(killed.ask("replayed before it", []))) == ["human: think first"]

    def test_amid_words(self, killed: Server) -> None:
        assert killed.say("amid words", "second") == ["human: slowly first", "human: second"]

    def test_amid_tools(self, killed: Server) -> None:
        asked, called, *results, second = killed.say("amid tools", "second")
        assert [asked, called, second] == ["human: call fast slow fast", "ai: calls fast slow fast", "human: second"]
        assert sorted(results) == sorted(["tool: fast is done", "tool: fast is done", f"tool: {UNFINISHED}"])
        assert sorted(killed.tool_runs("amid tools")) == ["fast", "fast", "slow"]

    def test_replayed_amid_tools(self, killed: Server) -> None:
        results = received(answered(killed.ask("replayed amid tools", [])))[2:]
        assert results == ["tool: fast is done", "tool: slow is done", "tool: fast is done"]
        assert sorted(killed.tool_runs("replayed amid tools")) == ["fast", "fast", "slow", "slow"]

    def test_between_a_question_and_its_answer(self, killed: Server) -> None:
        [asked] = killed.travel("get_checkpoint_state", "asked")["interrupts"]
        approval = {"type": "mcp_approval_response", "approval_request_id": f"mcpr_{asked['id']}_0", "approve": True}
        results = received(answered(killed.ask("asked", [approval])))[2:]
        assert results == ["tool: careful is done", "tool: fast is done"]
        assert killed.tool_runs("asked") == ["fast"]

    def test_after_the_end(self, killed: Server) -> None:
        assert killed.say("after the end", "second") == ["human: first", "ai: Answer to first", "human: second"]


def test_an_answer_shown_in_full_survives_kill_9(patient: Server) -> None:
    stream = Stream(patient.url, "shown", "first")
    assert stream.until("response.output_item.done")["item"]["type"] == "message"
    patient.kill()
    patient.start()
    assert patient.say("shown", "second") == ["human: first", "ai: Answer to first", "human: second"]


def test_a_client_may_hang_up_at_any_event(hasty: Server) -> None:
    kinds = [
        "response.created",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
    ]
    streams = [Stream(hasty.url, kind, "slowly call fast") for kind in kinds]
    with ThreadPoolExecutor(len(kinds)) as clients:

        def hang_up(stream: Stream, kind: str) -> list[str]:
            stream.until(kind)
            stream.hang_up()
            return hasty.say(kind, "second")

        for next_turn in clients.map(hang_up, streams, kinds):
            assert next_turn == [
                "human: slowly call fast",
                "ai: calls fast",
                "tool: fast is done",
                "ai: Answer to slowly call fast",
                "human: second",
            ]
    assert [hasty.tool_runs(kind) for kind in kinds] == [["fast"]] * len(kinds)


class TestResponses:
    """What a client asks of one server while, or after, another runs its turn."""

    def test_a_stream_whose_server_is_killed_says_so(self, hasty: Server, patient: Server) -> None:
        stream = Stream(patient.url, "lost", "slowly first")
        response_id = stream.until("response.created")["response"]["id"]
        stream.until("response.output_text.delta")
        time.sleep(0.5)  # the event log has that
        patient.kill()
        killed_at = time.monotonic()
        with pytest.raises(openai.APIError, match="died"):
            list(client_of(hasty).responses.retrieve(response_id, stream=True))
        assert time.monotonic() - killed_at < 10
        response = client_of(hasty).responses.retrieve(response_id)
        assert response.error
        assert (response.status, response.error.code) == ("failed", "turn_lost")
        assert answered(hasty.ask("lost", []))["status"] == "completed"  # resumed
        patient.start()

    def test_one_whose_server_is_killed_while_it_waits_begins_when_it_is_sent_again(
        self, hasty: Server, patient: Server
    ) -> None:
        Stream(hasty.url, "waited for", "slowly first").until("response.output_text.delta")
        asked = {"input": "second", "custom_inputs": {"thread_id": "waited for"}}

        def attempt(server: Server, **more: Any) -> httpx.Response:
            key = {"Idempotency-Key": "waits"}
            return httpx.post(f"{server.url}/responses", json=asked | more, headers=key, timeout=20)

        waiting = attempt(patient, background=True).json()
        assert waiting["status"] == "queued"
        patient.kill()
        refused = attempt(hasty)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "turn_not_begun")
        response = client_of(hasty).responses.retrieve(waiting["id"])
        assert response.error
        assert (response.status, response.error.code) == ("failed", "turn_not_begun")
        answer = answered(attempt(hasty))
        assert answer["id"] != waiting["id"]  # whose end was told
        assert client_of(hasty).responses.retrieve(waiting["id"]).status == "failed"
        assert answered(attempt(hasty))["id"] == answer["id"]
        assert received(answer) == ["human: slowly first", "ai: Answer to slowly first", "human: second"]
        patient.start()

    def test_picked_up_and_cancelled_from_another_process(self, hasty: Server, patient: Server) -> None:
        stream = Stream(hasty.url, "picked up", "slowly first")
        response_id = stream.until("response.created")["response"]["id"]
        stream.hang_up()
        rest = client_of(patient).responses.retrieve(response_id, stream=True, starting_after=0)
        assert [event.type for event in rest][-1] == "response.completed"
        begun = client_of(hasty).responses.create(
            model="m", input="slowly second", background=True, extra_body={"custom_inputs": {"thread_id": "picked up"}}
        )
        assert client_of(patient).responses.cancel(begun.id).status == "cancelled"
        assert patient.say("picked up", "third")[-2:] == ["human: slowly second", "human: third"]

    def test_the_event_log_catches_up_with_a_database_that_was_away(
        self, hasty: Server, patient: Server, cluster: Cluster
    ) -> None:
        stream = Stream(patient.url, "caught up", "slowly first")
        stream.until("response.output_text.delta")
        cluster.crash()
        time.sleep(1)
        cluster.start()
        stream.until("response.completed")
        time.sleep(1)
        again = client_of(hasty).responses.retrieve(stream.events[0]["response"]["id"], stream=True)
        assert [event.sequence_number for event in again] == list(range(len(stream.events)))


def client_of(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


class TestFailures:
    def test_a_model_that_breaks_off(self, hasty: Server) -> None:
        stream = Stream(hasty.url, "broken off", "break off")
        assert stream.until("error")["code"] == "model_failed"
        assert hasty.ask("broken off", "break off").status_code == 502
        assert hasty.say("broken off", "third") == ["human: break off", "human: third"]  # asked once, sent twice

    def test_a_tool_that_raises(self, hasty: Server) -> None:
        assert hasty.say("broken tool", "call broken fast")[2:] == [
            "tool: Error: broken is broken",
            "tool: fast is done",
        ]
        assert hasty.say("broken tool", "second")[-2:] == ["ai: Answer to call broken fast", "human: second"]


class TestDatabase:
    def test_restarted_between_requests(self, hasty: Server, cluster: Cluster) -> None:
        threads = [f"idle {n}" for n in range(30)]
        with ThreadPoolExecutor(30) as clients:
            list(clients.map(lambda thread_id: hasty.say(thread_id, "first"), threads))
            assert len(cluster.backends("hasty")) >= 5
            cluster.stop()
            cluster.start()
            started = time.monotonic()
            assert hasty.say("idle 0", "second")[-1] == "human: second"
            assert time.monotonic() - started < 1.5
            list(clients.map(lambda thread_id: hasty.say(thread_id, "third"), threads))

    @pytest.mark.parametrize("stop", [Cluster.stop, Cluster.crash])
    def test_away_for_2_s_amid_words(self, patient: Server, cluster: Cluster, stop: Callable[[Cluster], None]) -> None:
        thread_id = f"away {stop.__name__}"
        stream = Stream(patient.url, thread_id, "slowly first")
        stream.until("response.output_text.delta")
        stop(cluster)
        time.sleep(2)
        cluster.start()
        stream.until("response.completed")
        assert patient.say(thread_id, "second")[1:] == ["ai: Answer to slowly first", "human: second"]

    def test_away_a_server_is_alive_and_not_ready(self, patient: Server, cluster: Cluster) -> None:
        assert httpx.get(f"{patient.url}/ready").json() == {"status": "ready"}
        cluster.stop()
        try:
            away = httpx.get(f"{patient.url}/ready", timeout=20)
            assert (away.status_code, away.json()["status"]) == (503, "unavailable")
            assert httpx.get(f"{patient.url}/health").json() == {"status": "healthy"}
        finally:
            cluster.start()
        eventually(lambda: httpx.get(f"{patient.url}/ready", timeout=20).status_code == 200)

    def test_away_for_longer(self, hasty: Server, cluster: Cluster) -> None:
        stream = Stream(hasty.url, "cut short", "slowly first")
        stream.until("response.output_text.delta")
        cluster.stop()
        try:
            assert stream.until("error")["code"] == "storage_unavailable"
            for _ in range(2):
                refused = hasty.ask("away", "first")
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
        finally:
            cluster.start()
        assert int(refused.headers["retry-after"]) > 0
        back_at = time.monotonic()
        while (answer := hasty.ask("away", "second")).status_code == 503:
            assert time.monotonic() - back_at < 10
        assert received(answered(answer)) == ["human: second"]

    def test_hanging(self, hasty: Server, cluster: Cluster) -> None:
        hasty.say("hanging", "first")
        cluster.has_all_of("hanging")  # else a statement of the server's own waits, and the next has another connection
        with cluster.hanging("hasty"):
            started = time.monotonic()
            refused = hasty.ask("hanging", "second")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
            assert time.monotonic() - started < 2 * 2
        assert hasty.say("hanging", "third") == ["human: first", "ai: Answer to first", "human: third"]

    def test_100_streams_over_two_connections(self, patient: Server) -> None:
        streams = [Stream(patient.url, f"stream {n}", "slowly first") for n in range(100)]
        for stream in streams:
            stream.until("response.completed")


def test_turns_on_one_thread_over_two_servers_are_taken_in_turn(hasty: Server, patient: Server) -> None:
    questions = [f"question {n}" for n in range(8)]
    with ThreadPoolExecutor(8) as clients:
        for response in clients.map(lambda server, text: server.say("shared", text), [hasty, patient] * 4, questions):
            assert all(answer.startswith("ai: Answer to") for answer in response[1::2])
    lines = hasty.say("shared", "last")
    assert {line for line in lines if line.startswith("human")} == {f"human: {text}" for text in [*questions, "last"]}
    assert {line for line in lines if line.startswith("ai")} == {f"ai: Answer to {text}" for text in questions}
    assert len(hasty.travel("list_branches", "shared")) == 1
