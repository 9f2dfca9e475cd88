import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from conftest import say
from databases import dump
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from planning import NUMBER, Mood, Plan, Planning, Trip, Undeclared, planner
from pydantic import SecretStr
from scripted import Scripted
from walking import execute, fork, read_all, texts

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.errors import AgentError, Misconfigured, Unreadable
from stateful_agent.graph.build import build_graph
from stateful_agent.settings import Settings

Make = Callable[..., Any]

KEY, OTHER_KEY = "k" * 32, "o" * 32
WORD = "heliotrope"


class TestStrict:
    @pytest.mark.parametrize("code", [0, 1, 2, 4, 5])
    def test_a_planted_row_is_not_executed(self, make_agent: Make, database: str, tmp_path: Path, code: int) -> None:
        folder = tmp_path / "planted"
        arguments = {0: str(folder), 1: (str(folder),)}.get(code, {"path": str(folder)})
        planted = ormsgpack.packb([ormsgpack.Ext(code, ormsgpack.packb(("os", "mkdir", arguments)))])
        JsonPlusSerializer().loads_typed(("msgpack", planted))
        folder.rmdir()  # so the plant works

        say(make_agent(), "Weather in SF and LA?", thread_id="t")
        places = [
            {key: entry[key] for key in ("thread_id", "checkpoint_id")}
            for entry in make_agent().get_checkpoint_history("t")
        ]
        for table in ("checkpoint_blobs", "checkpoint_writes"):
            execute(database, f"UPDATE {table} SET type = 'msgpack', blob = %(planted)s", planted=planted)
        agent = make_agent()
        for ref in places:
            for use in (agent.get_checkpoint_state, lambda **ref: say(agent, "go on", **ref)):
                with contextlib.suppress(Exception):  # it is no conversation any more
                    use(**ref)
        with contextlib.suppress(Exception):
            say(agent, "go on", thread_id="t")
        assert not folder.exists()

    def test_messages_come_back_as_they_were(self) -> None:
        call = {"id": "c", "name": "search", "args": {"query": "x"}, "type": "tool_call"}
        usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        messages: list[AnyMessage | RemoveMessage] = [
            SystemMessage("be kind", id="0"),
            HumanMessage([{"type": "text", "text": "é\U0001f600"}], id="1", name="Alice"),
            AIMessage("", id="2", tool_calls=[call], usage_metadata=usage, response_metadata={"model": "m"}),
            ToolMessage("failed", id="3", tool_call_id="c", status="error", artifact={"rows": [1]}),
            RemoveMessage("1"),
        ]
        for settings in (Settings(), Settings(langgraph_aes_key=SecretStr(KEY))):
            serializer = Serializer(Cipher(settings)).for_thread("t")
            assert serializer.loads_typed(serializer.dumps_typed(messages)) == messages

    @pytest.mark.parametrize("key", [None, KEY])
    def test_types_that_the_state_declares_come_back_as_they_were(self, make_agent: Make, key: str | None) -> None:
        seen: list[Any] = []
        outer = StateGraph(Planning)
        outer.add_node("inner", planner(seen).compile())
        outer.add_edge(START, "inner")
        for graph in (planner(seen), outer):
            thread = {"thread_id": f"{len(seen)}"}
            say(make_agent(graph, langgraph_aes_key=key), WORD, **thread)
            say(make_agent(graph, langgraph_aes_key=key), "again", **thread)
            assert seen[-1] == {
                "trip": Trip(plan=Plan([WORD]), mood=Mood.GOOD),
                "mood": Mood.GOOD,
                "anything": {"x": 1},  # of a type that the state does not declare
                "note": WORD,
                "count": NUMBER,
            }

    def test_langgraphs_own_strict_mode_adds_types_to_the_turns_saver(self, agent: Any) -> None:
        async def ask() -> None:
            _, saver = await agent.store.graph_with_saver()
            assert saver.serde.loads_typed(saver.serde.dumps_typed(Undeclared(x=1))) == {"x": 1}
            assert saver.with_allowlist({("planning", "Undeclared")}) is saver  # what a copy stores is not waited for
            assert saver.serde.loads_typed(saver.serde.dumps_typed(Undeclared(x=1))) == Undeclared(x=1)

        agent.open()
        agent.loop.run(ask())


class TestEncryption:
    @pytest.mark.parametrize("key", [None, "k" * 16, "k" * 24, KEY])
    def test_nothing_that_was_said_is_readable_in_any_table(
        self, make_agent: Make, database: str, key: str | None
    ) -> None:
        first = say(make_agent(planner(), langgraph_aes_key=key), WORD, thread_id="t")["custom_outputs"]
        say(make_agent(langgraph_aes_key=key), f"Weather in {WORD}?", thread_id="u")
        ref = {name: first[name] for name in ("thread_id", "checkpoint_id")}
        edit = [{"role": "user", "content": f"edited {WORD}"}]
        make_agent(planner(), langgraph_aes_key=key).update_checkpoint_state(**ref, new_messages=edit)
        failing = make_agent(build_graph(Scripted(failure=RuntimeError(f"no {WORD}")), []), langgraph_aes_key=key)
        with pytest.raises(AgentError):
            say(failing, "fail", thread_id="t")
        stored = dump(database)
        for word in (WORD, "edited", "small built-in sample", "RuntimeError", str(NUMBER)):
            assert (word.encode() in stored) is (key is None), word

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE checkpoint_blobs AS mine SET blob = theirs.blob, type = theirs.type FROM checkpoint_blobs AS theirs"
            " WHERE mine.thread_id = 't' AND theirs.thread_id = 'alice' AND mine.channel = theirs.channel",
            "UPDATE checkpoint_writes AS mine SET blob = theirs.blob, type = theirs.type"
            " FROM checkpoint_writes AS theirs WHERE mine.thread_id = 't' AND theirs.thread_id = 'alice'",
            "UPDATE checkpoints AS mine SET metadata = theirs.metadata"
            " FROM checkpoints AS theirs WHERE mine.thread_id = 't' AND theirs.thread_id = 'alice'"
            " AND theirs.metadata ->> 'last_message' IS NOT NULL",
            "UPDATE checkpoint_blobs SET type = 'label+aesgcm', blob = ("
            " SELECT decode(metadata -> 'last_message' ->> 'encrypted', 'base64') FROM checkpoints"
            " WHERE thread_id = 't' ORDER BY checkpoint_id DESC LIMIT 1) WHERE thread_id = 't'",
            "UPDATE agent_messages AS mine SET blob = theirs.blob, type = theirs.type FROM agent_messages AS theirs"
            " WHERE mine.thread_id = 't' AND theirs.thread_id = 't' AND mine.number <> theirs.number",
            "UPDATE checkpoint_blobs SET blob = convert_to(replace(convert_from(blob, 'UTF8'), '[1,', '[2,'), 'UTF8')"
            " WHERE type = 'messages'",
            "DELETE FROM agent_messages",
            "UPDATE checkpoint_blobs SET type = 'bytes+aesgcm'",
            "UPDATE checkpoint_blobs SET type = 'msgpack+aes'",
            "UPDATE checkpoint_blobs SET type = 'json'",
            "UPDATE checkpoint_blobs SET type = 'pickle'",
            "UPDATE checkpoint_blobs SET blob = set_byte(blob, 20, get_byte(blob, 20) # 1)",
            "UPDATE checkpoint_blobs SET blob = substr(blob, 1, 5)",
            "UPDATE checkpoint_blobs SET blob = NULL",
            """UPDATE checkpoints SET metadata = metadata || '{"last_message": {"encrypted": "?"}}'""",
            """UPDATE checkpoints SET metadata = metadata || '{"last_message": {}}'""",
        ],
    )
    def test_a_row_that_was_moved_or_changed_is_refused(self, make_agent: Make, database: str, change: str) -> None:
        agent = make_agent(langgraph_aes_key=KEY)
        say(agent, f"Weather in {WORD}?", thread_id="alice")
        say(agent, "Weather in LA?", thread_id="t")
        execute(database, change)
        with pytest.raises(Unreadable) as caught:
            read_all(make_agent(langgraph_aes_key=KEY))  # which remembers nothing
        assert WORD not in str(caught.value)
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize(("key", "error"), [(OTHER_KEY, Unreadable), (None, Misconfigured)])
    def test_the_wrong_key_and_none(self, make_agent: Make, rows: Any, key: str | None, error: type[Exception]) -> None:
        say(make_agent(langgraph_aes_key=KEY), WORD, thread_id="t")
        before = rows()
        agent = make_agent(langgraph_aes_key=key)
        for use in (
            lambda: agent.get_checkpoint_history("t"),
            lambda: agent.get_checkpoint_state("t"),
            lambda: agent.list_branches("t"),
            lambda: agent.list_threads(),
            lambda: say(agent, "hello", thread_id="t"),
        ):
            with pytest.raises(error, match="LANGGRAPH_AES_KEY"):
                use()
        assert rows() == before

    def test_settings_that_do_not_fit(self, make_agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LANGGRAPH_AES_KEY", "tooshort")
        with pytest.raises(Misconfigured, match="16, 24 or 32 bytes") as caught:
            make_agent().open()
        assert "tooshort" not in str(caught.value) + repr(Settings())
        with pytest.raises(Misconfigured, match="needs a key"):
            make_agent(langgraph_aes_key=None, encryption_required=True).open()


class TestFromPlainToEncrypted:
    def test_an_old_thread_goes_on_encrypted(self, make_agent: Make, database: str) -> None:
        say(make_agent(planner()), WORD, thread_id="t")
        before = read_all(make_agent(planner()))
        agent = make_agent(planner(), langgraph_aes_key=KEY)
        assert read_all(agent) == before
        say(agent, "secondly", thread_id="t")
        assert b"secondly" not in dump(database)
        # What is inline in the old checkpoints is not in the new ones, and not lost.
        assert str(NUMBER).encode() in dump(database, "checkpoints")
        old = [entry["checkpoint_id"] for entry in before[0]]
        execute(database, "DELETE FROM checkpoints WHERE checkpoint_id = ANY(%(old)s)", old=old)
        assert str(NUMBER).encode() not in dump(database, "checkpoints")
        assert WORD.encode() not in dump(database, "checkpoints")
        values = agent.get_checkpoint_state("t")["values"]
        assert (values["note"], values["count"]) == (WORD, NUMBER)

    def test_is_refused_where_encryption_is_required(self, make_agent: Make, rows: Any) -> None:
        say(make_agent(planner()), WORD, thread_id="t")
        before = rows()
        agent = make_agent(planner(), langgraph_aes_key=KEY, encryption_required=True)
        for use in (
            lambda: agent.get_checkpoint_history("t"),
            lambda: agent.get_checkpoint_state("t"),
            lambda: agent.list_branches("t"),
            lambda: agent.list_threads(),
            lambda: agent.copy_thread("t"),
            lambda: say(agent, "hello", thread_id="t"),
        ):
            with pytest.raises(Unreadable, match="ENCRYPTION_REQUIRED"):
                use()
        assert rows() == before
        agent.delete_thread("t")
        say(agent, "hello", thread_id="u")
        assert len(read_all(agent, "u")[0]) == 4

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE checkpoint_blobs SET type = 'msgpack'",
            """UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint, '{channel_values,x}', '"y"')""",
            """UPDATE checkpoints SET metadata = metadata || '{"last_message": "y"}'""",
        ],
    )
    def test_what_is_planted_where_it_is_required(self, make_agent: Make, database: str, change: str) -> None:
        agent = make_agent(langgraph_aes_key=KEY, encryption_required=True)
        say(agent, "hello", thread_id="t")
        execute(database, change)
        with pytest.raises(Unreadable, match="ENCRYPTION_REQUIRED"):
            agent.get_checkpoint_state("t")

    @pytest.mark.parametrize("old_key", [None, KEY])
    def test_a_copy_is_encrypted_for_itself(self, make_agent: Make, database: str, old_key: str | None) -> None:
        first = say(make_agent(planner(), langgraph_aes_key=old_key), WORD, thread_id="t")["custom_outputs"]
        agent = make_agent(planner(), langgraph_aes_key=KEY)
        fork(agent, first, "otherwise")
        copy = agent.copy_thread("t")["thread_id"]
        assert read_all(agent, copy) == read_all(agent, "t")
        agent.delete_thread("t")
        assert WORD.encode() not in dump(database)
        say(agent, "go on", thread_id=copy)
        assert texts(agent, thread_id=copy)[-1] == "you said go on"

    def test_a_copy_of_what_cannot_be_read_is_none(self, make_agent: Make, rows: Any) -> None:
        say(make_agent(langgraph_aes_key=KEY), WORD, thread_id="t")
        before = rows()
        with pytest.raises(Unreadable):
            make_agent(langgraph_aes_key=OTHER_KEY).copy_thread("t")
        assert rows() == before
