"""Three servers behind nginx, which asks another one at each request, and one database, reached through pgbouncer.

Whatever is acknowledged is found by whoever is asked next, and each conversation is sound for the model.
"""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from conftest import eventually, with_agent
from debian import pgbouncer
from replicated import Nginx, Node, nodes
from served import Server, answered, received


class House:
    """The servers, what is before and what is behind them."""

    def __init__(self, servers: list[Server], nginx: Nginx) -> None:
        self.servers, self._nginx = servers, nginx
        self.url = nginx.url
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=4)

    def find_servers(self) -> None:
        self._nginx.serve([server.url for server in self.servers])

    def ask(self, thread_id: str, text: Any, **custom_inputs: Any) -> Any:
        ref = {"custom_inputs": {"thread_id": thread_id} | custom_inputs}
        return self.client.responses.create(model="m", input=text, extra_body=ref)

    def say(self, thread_id: str, text: str, **custom_inputs: Any) -> list[str]:
        """A turn. Returns what the model was given, a line for each message."""
        return received(self.ask(thread_id, text, **custom_inputs).model_dump())

    def has(self, thread_id: str, text: str) -> bool:
        """Whether that was said on a thread."""
        found = self.ask(thread_id, [], operation="get_checkpoint_state").custom_outputs["result"]
        return json.dumps(text) in json.dumps(found)

    def resume(self, thread_id: str) -> list[str] | None:
        """The same for a turn whose server has died; `None` if nothing of it is pending."""
        try:
            return received(self.ask(thread_id, []).model_dump())
        except openai.BadRequestError as error:
            if error.code != "nothing_to_resume":
                raise
            return None


class Talk:
    """Conversations of several people, until they are told to stop. Each notes what was acknowledged."""

    def __init__(self, house: House, name: str) -> None:
        self.errors: list[Exception] = []
        self._house, self._name = house, name
        self._is_over = threading.Event()
        self._said: dict[str, list[str]] = {f"{name} {n}": [] for n in range(4)}
        self._threads = [threading.Thread(target=self._talk, args=(thread_id,)) for thread_id in self._said]
        for thread in self._threads:
            thread.start()

    def _talk(self, thread_id: str) -> None:
        said = self._said[thread_id]
        try:
            while not self._is_over.is_set():
                text = f"turn {len(said)}"
                try:
                    seen: list[str] | None = self._house.say(thread_id, text)
                except openai.InternalServerError as error:
                    if error.code != "turn_lost":
                        raise
                    seen = self._house.resume(thread_id)
                if seen not in (None, history(said, text)):
                    raise AssertionError(f"On {thread_id}, after {said}, at {text}, the model was given {seen}.")
                if seen or self._house.has(thread_id, text):  # else it was lost before it was stored, as was told
                    said.append(text)
        except Exception as error:
            self.errors.append(error)

    def turns(self) -> int:
        return sum(map(len, self._said.values()))

    def end(self) -> None:
        """Stop, and see that all that was acknowledged is there."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        assert self.errors == []
        for thread_id, said in self._said.items():
            assert said
            assert self._house.say(thread_id, "last") == history(said, "last")


def history(said: list[str], text: str) -> list[str]:
    """What the model is given after that was said, of which it tells the last twenty messages."""
    lines = [line for each in said for line in (f"human: {each}", f"ai: Answer to {each}")]
    return [*lines, f"human: {text}"][-20:]


@pytest.fixture(scope="module")
def database() -> Iterator[tuple[Node, Node]]:
    with nodes() as found:
        yield found


@pytest.fixture(scope="module")
def model(logged_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return with_agent(logged_model, Path(__file__).with_name("strict_agent.py"), tmp_path_factory.mktemp("agent"))


def house_on(urls: list[str], model: str, folder: Path, stack: ExitStack) -> House:
    servers = [Server(model, folder / str(n), DATABASE_URL=url) for n, url in enumerate(urls)]
    for server in servers:
        stack.callback(server.stop)
    with ThreadPoolExecutor() as starting:
        list(starting.map(Server.start, servers))
    nginx = Nginx(folder)
    stack.callback(nginx.stop)
    house = House(servers, nginx)
    house.find_servers()
    return house


@pytest.fixture(scope="module")
def house(database: tuple[Node, Node], model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    url = f"postgresql://postgres@127.0.0.1:{database[0].port}/postgres"
    with ExitStack() as stack:
        pooled = stack.enter_context(pgbouncer(url, default_pool_size="20"))
        yield house_on([pooled] * 3, model, folder, stack)


def test_a_conversation_hops_from_server_to_server_and_forks(house: House) -> None:
    said: list[str] = []
    checkpoints = []
    for n in range(6):
        answer = house.ask("hops", f"turn {n}")
        assert received(answer.model_dump()) == history(said, f"turn {n}")
        said.append(f"turn {n}")
        checkpoints.append(answer.custom_outputs["checkpoint_id"])
    assert house.say("hops", "instead", checkpoint_id=checkpoints[2]) == history(said[:3], "instead")
    assert house.say("hops", "further", checkpoint_id=checkpoints[5]) == history(said, "further")


def test_turns_on_one_thread_at_once_come_one_after_the_other(house: House) -> None:
    with ThreadPoolExecutor(6) as callers:
        seen = sorted(callers.map(lambda n: house.say("busy", f"turn {n}"), range(6)), key=len)
    assert [len(each) for each in seen] == [1, 3, 5, 7, 9, 11]
    for before, after in itertools.pairwise(seen):
        assert after[: len(before)] == before


def test_a_background_run_is_looked_at_and_its_stream_resumed_at_any_server(house: House) -> None:
    ref = {"custom_inputs": {"thread_id": "background"}}
    begun = house.client.responses.create(model="m", input="slowly first", background=True, extra_body=ref)
    for _ in range(3):
        resumed = list(house.client.responses.retrieve(begun.id, stream=True, starting_after=3))
        assert resumed[0].sequence_number == 4
        assert resumed[-1].type == "response.completed"
        assert house.client.responses.retrieve(begun.id).status == "completed"


def test_a_replica_is_killed(house: House) -> None:
    talk = Talk(house, "killed")
    time.sleep(2)
    house.servers[0].kill()
    since = talk.turns()
    time.sleep(12)  # longer than a lease
    house.servers[0].start()
    house.find_servers()
    time.sleep(2)
    assert talk.turns() > since + 10
    talk.end()


def test_a_rolling_restart_is_noticed_by_nobody(house: House) -> None:
    house.client = house.client.with_options(max_retries=1)
    talk = Talk(house, "rolling")
    for server in house.servers:
        time.sleep(1)
        server.stop()
        server.start()
        house.find_servers()
    talk.end()


def test_a_turn_that_is_at_work_when_its_server_is_stopped_ends(house: House) -> None:
    server = house.servers[1]
    body = {"input": "slowly on", "custom_inputs": {"thread_id": "ends"}}
    with ThreadPoolExecutor() as callers:
        answer = callers.submit(httpx.post, f"{server.url}/responses", json=body, timeout=30)
        later = {"input": "slowly behind", "background": True, "custom_inputs": {"thread_id": "behind"}}
        background = answered(httpx.post(f"{server.url}/responses", json=later))["id"]
        time.sleep(0.5)
        server.stop()
    assert received(answered(answer.result())) == ["human: slowly on"]
    assert house.client.responses.retrieve(background).status == "completed"
    server.start()
    house.find_servers()


def test_the_database_fails_over_to_its_standby(
    database: tuple[Node, Node], model: str, house: House, tmp_path: Path
) -> None:
    primary, standby = database
    standby.follow(primary)
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write&connect_timeout=2"
    with ExitStack() as stack:
        direct = house_on([url] * 3, model, tmp_path, stack)
        direct.client = direct.client.with_options(max_retries=8)
        assert direct.say("hops", "from before")[-1] == "human: from before"  # what the other servers have stored
        talk = Talk(direct, "failover")
        time.sleep(3)
        primary.control("-m", "immediate", "stop")
        since = talk.turns()
        time.sleep(1)
        standby.control("promote")
        eventually(lambda: talk.errors or talk.turns() > since + 10)
        talk.end()
