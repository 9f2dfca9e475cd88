import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any, cast

import debian
import psycopg
import pytest
from conftest import say, text_of
from databases import new_database
from pydantic import SecretStr

from stateful_agent.checkpoints.tables import LEDGERS, TABLES, database_for
from stateful_agent.database import migrations
from stateful_agent.database.statements import Function, functions
from stateful_agent.database.url import in_schema
from stateful_agent.errors import Misconfigured, StorageUnavailable
from stateful_agent.settings import Settings

Make = Callable[..., Any]


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    """The URL of a database without tables, in which only its owner may create any."""
    with new_database(postgres, template="template1") as url:
        yield url


@pytest.fixture
def database(own_database: str) -> str:
    """The tables themselves are changed here."""
    return own_database


@pytest.fixture
def writer(postgres: str) -> str:
    """A role that owns nothing."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS writer")
        connection.execute("CREATE ROLE writer LOGIN")
    return "writer"


def run(url: str, *statements: str) -> list[Any]:
    """Say statements. Returns the values that the last of them returns."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return [row[0] for row in cursor.fetchall()] if cursor.description else []


def add_migration(monkeypatch: pytest.MonkeyPatch, migration: str) -> None:
    monkeypatch.setitem(cast(Any, LEDGERS), "agent_migrations", {**LEDGERS["agent_migrations"], NEXT: migration})


def as_role(url: str, role: str) -> str:
    return psycopg.conninfo.make_conninfo(url, user=role)


def tables(url: str, of_schema: str) -> set[str]:
    return set(run(url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{of_schema}'"))


ALL = {*TABLES, *LEDGERS}
NEXT = max(LEDGERS["agent_migrations"]) + 1
FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


def set_up(url: str, role: str | None = None, **settings: Any) -> list[str]:
    return asyncio.run(database_for(Settings(database_url=SecretStr(url), **settings)).set_up(role))


def use(url: str) -> None:
    async def open_and_close() -> None:
        storage = database_for(Settings(database_url=SecretStr(url)))
        await storage.pool()
        await storage.close()

    asyncio.run(open_and_close())


def set_up_agents(url: str) -> None:
    set_up(url, database_schema="agents")


def at_once(work: Callable[[str], Any], url: str) -> None:
    """Let eight processes work."""
    fork = multiprocessing.get_context("fork")  # of what this process has, they use nothing but the code
    ready = fork.Barrier(8)

    def begin() -> None:
        ready.wait(10)
        work(url)

    processes = [fork.Process(target=begin) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 8


class TestSettingUp:
    def test_eight_processes_at_once(self, empty: str) -> None:
        at_once(use, empty)
        assert tables(empty, "public") == ALL
        assert run(empty, INVALID) == []

    def test_eight_processes_at_once_through_a_proxy(self, empty: str) -> None:
        with debian.pgbouncer(empty) as through:
            at_once(use, through)
        assert tables(empty, "public") == ALL
        assert run(empty, INVALID) == []

    def test_eight_commands_at_once(self, empty: str) -> None:
        at_once(set_up_agents, empty)
        assert tables(empty, "agents") == ALL

    def test_again(self, empty: str) -> None:
        assert set_up(empty) == ["The tables in schema public were created."]
        assert set_up(empty) == ["The tables in schema public were current."]

    def test_beside_the_threads_of_another_langgraph_program(self, empty: str, make_agent: Make) -> None:
        from langgraph.checkpoint.postgres import PostgresSaver

        with PostgresSaver.from_conn_string(empty) as theirs:
            theirs.setup()
        run(
            empty,
            """INSERT INTO checkpoints VALUES ('t', '', '1', NULL, NULL, '{"ts": "2026-01-01T00:00:00Z"}', '{}')""",
        )
        assert set_up(empty) == ["The tables in schema public are up to date now."]
        assert run(empty, "SELECT thread_id FROM agent_threads") == ["t"]
        with PostgresSaver.from_conn_string(empty) as theirs:
            theirs.setup()

    def test_an_older_schema_is_brought_up_to_date(self, make_agent: Make, database: str, monkeypatch: Any) -> None:
        say(make_agent(), "I'm headed to SF!", thread_id="t")
        add_migration(monkeypatch, "ALTER TABLE agent_threads ADD mood text")
        assert "SF" in text_of(say(make_agent(), "Where am I going?", thread_id="t"))
        assert run(database, "SELECT mood FROM agent_threads") == [None]

    def test_functions_of_another_version_come_beside_the_others(self, database: str, monkeypatch: Any) -> None:
        there = set(run(database, FUNCTIONS))
        text = "CREATE FUNCTION agent_take(_a integer) RETURNS integer LANGUAGE sql AS 'SELECT _a'"
        other = Function("agent_take", text)
        monkeypatch.setattr(migrations, "functions", lambda: functions() | {"agent_take": other})
        use(database)
        assert set(run(database, FUNCTIONS)) == there | {other.name}

    def test_tables_from_before_there_was_a_ledger(self, make_agent: Make, database: str) -> None:
        say(make_agent(), "I'm headed to SF!", thread_id="t")
        run(database, "DROP TABLE agent_migrations")
        assert "SF" in text_of(say(make_agent(), "Where am I going?", thread_id="t"))

    def test_a_later_version_of_the_tables_will_do(self, make_agent: Make, database: str) -> None:
        run(database, "INSERT INTO agent_migrations VALUES (1000)")
        use(database)
        assert max(run(database, "SELECT v FROM agent_migrations")) == 1000

    def test_an_index_that_an_interrupted_program_left_behind(self, empty: str) -> None:
        from langgraph.checkpoint.postgres import PostgresSaver

        run(empty, *PostgresSaver.MIGRATIONS[:6], "INSERT INTO checkpoint_migrations SELECT generate_series(0, 5)")
        with psycopg.connect(empty) as busy:
            busy.execute("INSERT INTO checkpoints VALUES ('t', '', '1', NULL, NULL, '{}', '{}')")
            with pytest.raises(psycopg.errors.QueryCanceled):
                run(empty, "SET statement_timeout = 100", PostgresSaver.MIGRATIONS[6])
            busy.rollback()
        assert run(empty, INVALID) == ["checkpoints_thread_id_idx"]
        assert set_up(empty)[1:] == ["Mended the index checkpoints_thread_id_idx."]
        assert run(empty, INVALID) == []

    def test_one_that_fails_changes_nothing(self, empty: str, monkeypatch: Any) -> None:
        add_migration(monkeypatch, "SELECT 1 / 0")
        with pytest.raises(psycopg.errors.DivisionByZero):
            set_up(empty)
        assert tables(empty, "public") == set()


class TestARoleThatMayOnlyReadAndWriteRows:
    def test_runs_the_agent(self, make_agent: Make, empty: str, writer: str) -> None:
        done = set_up(empty, role=writer)
        assert 'GRANT USAGE ON SCHEMA "public" TO "writer"' in done
        agent = make_agent(database_url=as_role(empty, writer))
        first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        say(agent, "I'm headed to Oslo!", thread_id="t", checkpoint_id=first["checkpoint_id"])
        assert len(agent.get_checkpoint_history("t", 100)) == 6
        agent.copy_thread("t")
        agent.prune(0)
        agent.delete_thread("t")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(as_role(empty, writer), "CREATE TABLE public.other ()")

    def test_without_tables(self, make_agent: Make, empty: str, writer: str) -> None:
        with pytest.raises(Misconfigured, match=r"stateful-agent set-up-database --grant"):
            say(make_agent(database_url=as_role(empty, writer)), "hello")
        assert tables(empty, "public") == set()

    def test_with_older_tables(self, make_agent: Make, database: str, writer: str, monkeypatch: Any) -> None:
        set_up(database, role=writer)
        add_migration(monkeypatch, "ALTER TABLE agent_threads ADD x int")
        with pytest.raises(Misconfigured, match="older than this version needs"):
            say(make_agent(database_url=as_role(database, writer)), "hello")

    def test_where_functions_are_not_everybodys(self, make_agent: Make, empty: str, writer: str) -> None:
        run(empty, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        set_up(empty, role=writer)
        say(make_agent(database_url=as_role(empty, writer)), "hello")

    @pytest.mark.parametrize(
        "lacking",
        [
            "SELECT ON checkpoint_migrations",
            "DELETE ON checkpoint_blobs",
            "EXECUTE ON ALL FUNCTIONS IN SCHEMA public",
        ],
    )
    def test_that_may_not_all_of_it(self, make_agent: Make, database: str, writer: str, lacking: str) -> None:
        set_up(database, role=writer)
        run(database, f"REVOKE {lacking} FROM writer, PUBLIC")
        with pytest.raises(Misconfigured, match="--grant"):
            say(make_agent(database_url=as_role(database, writer)), "hello")

    def test_nobody_of_that_name(self, empty: str) -> None:
        with pytest.raises(psycopg.errors.UndefinedObject):
            set_up(empty, role="nobody of that name")
        assert tables(empty, "public") == set()


class TestASchemaOfItsOwn:
    @pytest.mark.parametrize("name", ["agents", 'Our "agents"\\ and\tothers'])
    def test_holds_all_tables(self, make_agent: Make, empty: str, writer: str, name: str) -> None:
        assert set_up(empty, role=writer, database_schema=name)[0] == f"Created the schema {name}."
        agent = make_agent(database_url=as_role(empty, writer), database_schema=name)
        say(agent, "hello", thread_id="t")
        assert len(agent.get_checkpoint_history("t")) == 3
        assert tables(empty, name) == ALL
        assert tables(empty, "public") == set()

    def test_keeps_the_options_of_the_url(self, empty: str) -> None:
        url = in_schema(empty + " options='-c work_mem=5MB'", "agents")
        assert run(url, "SHOW work_mem") == ["5MB"]
        assert run(url, "SHOW search_path") == ['"agents"']

    def test_that_is_not_there(self, make_agent: Make, database: str) -> None:
        with pytest.raises(Misconfigured, match=r"'agnets'.*set-up-database"):
            say(make_agent(database_schema="agnets"), "hello")
        assert tables(database, "agnets") == set()

    def test_that_a_proxy_keeps_from_the_server(self, make_agent: Make, database: str, rows: Callable[[], int]) -> None:
        run(database, "CREATE SCHEMA agents")
        with debian.pgbouncer(database, ignore_startup_parameters="options") as through:
            with pytest.raises(Misconfigured, match="'agents', but arrive in 'public'"):
                say(make_agent(database_url=through, database_schema="agents"), "hello")
            with pytest.raises(Misconfigured, match="'agents', but arrive in 'public'"):
                set_up(through, database_schema="agents")
        assert rows() == 0
        assert tables(database, "agents") == set()

    def test_that_a_proxy_refuses(self, make_agent: Make, database: str, rows: Callable[[], int]) -> None:
        with debian.pgbouncer(database) as through:
            with pytest.raises(StorageUnavailable):
                say(make_agent(database_url=through, database_schema="agents", database_timeout=0.5), "hello")
            with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
                set_up(through, database_schema="agents")
        assert rows() == 0

    def test_that_the_role_names_works_through_a_proxy(self, make_agent: Make, empty: str, writer: str) -> None:
        set_up(empty, role=writer, database_schema="agents")
        run(empty, "ALTER ROLE writer SET search_path = agents")
        with debian.pgbouncer(as_role(empty, writer)) as through:
            agent = make_agent(database_url=through)
            say(agent, "I'm headed to SF!", thread_id="t")
            assert "SF" in text_of(say(agent, "Where am I going?", thread_id="t"))
        assert run(empty, "SELECT thread_id FROM agents.agent_threads") == ["t"]
        assert tables(empty, "public") == set()
