"""The checkpoints of all threads: a graph, and for each run of it a saver of its own."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

from langgraph.graph import StateGraph
from langgraph.store.base import BaseStore

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.langgraph_internals import declared_types
from stateful_agent.checkpoints.lease import Leases
from stateful_agent.checkpoints.message_log import MessageCache
from stateful_agent.checkpoints.saver import TurnSaver
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import Database, fetch
from stateful_agent.database.statements import statements
from stateful_agent.graph.build import CompiledGraph, check_graph
from stateful_agent.graph.streaming import StepStreams
from stateful_agent.settings import Settings

SETUP = statements("setup")

Graph: TypeAlias = StateGraph[Any, Any, Any, Any] | CompiledGraph


class CheckpointStore:
    """A graph whose state is kept in a database."""

    def __init__(self, graph: Graph | Callable[[], Graph], database: Database, settings: Settings) -> None:
        """`graph` may be a function that builds the graph: it is called once, at first use.

        Raises:
            Misconfigured: the graph cannot be served.
        """
        self._source = graph
        self._database = database
        self._settings = settings
        self._leases: Leases | None = None
        self._messages: MessageCache
        if not callable(graph):
            _ = self.graph  # what cannot be served is refused now

    @cached_property
    def graph(self) -> CompiledGraph:
        """The graph, compiled, without a saver.

        Raises:
            Misconfigured: it cannot be served.
        """
        graph = self._source() if callable(self._source) else self._source
        compiled = graph.compile() if isinstance(graph, StateGraph) else graph
        check_graph(compiled)
        return compiled

    @cached_property
    def streams(self) -> StepStreams:
        """When the words of each step of the graph are told."""
        return StepStreams(self.graph)

    @cached_property
    def cipher(self) -> Cipher:
        """What encrypts the values that are stored.

        Raises:
            Misconfigured: the key does not fit.
        """
        return Cipher(self._settings)

    @cached_property
    def _serializer(self) -> Serializer:
        return Serializer(self.cipher, declared_types(self.graph))

    async def open(self) -> None:
        """Build the graph and connect to the database. Raises what `graph`, `cipher` and `Database.pool` do."""
        _ = self.graph, self.cipher
        await self._database.pool()

    async def check(self) -> None:
        """Make sure that a turn could begin: the graph is built, and the database answers. Raises what `open` does."""
        await self.open()
        await fetch(await self._database.pool(), SETUP["read_threads"], {})

    async def graph_with_saver(self, memory: BaseStore | None = None) -> tuple[CompiledGraph, TurnSaver]:
        """The graph with a saver of its own: a shared one's lock would serialize the whole pool.

        `memory` is the store that its steps get, unless it has one.
        """
        pool = await self._database.pool()
        if self._leases is None or self._leases.pool is not pool:
            self._leases, self._messages = Leases(pool, self._settings.thread_timeout), MessageCache()
        saver = TurnSaver(pool, self._leases, self._messages, self._serializer, self.graph)
        return self.graph.copy({"checkpointer": saver, "store": self.graph.store or memory}), saver
