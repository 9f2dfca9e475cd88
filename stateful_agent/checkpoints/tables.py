"""The tables that the agent keeps its state in: LangGraph's own, and ours beside them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres import AsyncPostgresStore
from langgraph.store.postgres.base import PostgresIndexConfig

from stateful_agent.database.migrations import Ledgers, tables_of
from stateful_agent.database.pool import Database
from stateful_agent.database.statements import migrations
from stateful_agent.settings import Settings

MOST_AS_VECTOR = 2000
"""Dimensions of a `vector` that pgvector can index; it can twice as many in half the precision."""


def database_for(settings: Settings) -> Database:
    """The database that the settings name, with the tables that they need."""
    index = vector_index(settings)
    return Database(settings, LEDGERS if index is None else {**LEDGERS, "vector_migrations": _vector_ledger(index)})


def vector_index(settings: Settings) -> PostgresIndexConfig | None:
    """How LangGraph's store keeps the vectors of texts, if a model makes them."""
    if settings.embedding_dimensions is None:
        return None
    is_long = settings.embedding_dimensions > MOST_AS_VECTOR
    ann: Any = {"kind": "hnsw", "vector_type": "halfvec" if is_long else "vector"}
    # What embeds is named with each use.
    return {"dims": settings.embedding_dimensions, "embed": "", "ann_index_config": ann, "distance_type": "cosine"}


def _store_ledger(ledger: str, statements: Sequence[str]) -> dict[int, str]:
    """LangGraph's store makes its ledger apart from its migrations."""
    first = f"CREATE TABLE IF NOT EXISTS {ledger} (v INTEGER PRIMARY KEY);\n{statements[0]}"
    return dict(enumerate([first, *statements[1:]]))


def _vector_ledger(index: PostgresIndexConfig) -> dict[int, str]:
    store: Any = SimpleNamespace(index_config=index)
    statements = []
    for migration in AsyncPostgresStore.VECTOR_MIGRATIONS:
        values = {name: make(store) for name, make in (migration.params or {}).items()}
        statements.append(migration.sql % values if values else migration.sql)
    return _store_ledger("vector_migrations", statements)


LEDGERS: Ledgers = {
    "checkpoint_migrations": dict(enumerate(AsyncPostgresSaver.MIGRATIONS)),
    "store_migrations": _store_ledger("store_migrations", AsyncPostgresStore.MIGRATIONS),
    "agent_migrations": migrations(),
}
"""The migrations of LangGraph's tables, as its saver and its store have them, and of ours."""

TABLES = tables_of(LEDGERS)
