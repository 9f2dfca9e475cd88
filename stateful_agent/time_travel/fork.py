"""Forks of a checkpoint at which some tasks have ended or asked somebody: what has ended does not run again.

LangGraph knows what a task has written by the checkpoint that it is stored at. So the checkpoint is copied, and what is
kept of its tasks is stored at the copy; the checkpoint itself stays as it is.
"""

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Interrupt, PregelTask

from stateful_agent.checkpoints.langgraph_internals import (
    CONTROL_WRITES,
    INTERRUPT,
    RESUME,
    interrupt_id,
    new_checkpoint_id,
)
from stateful_agent.checkpoints.reader import config_at
from stateful_agent.checkpoints.saver import TurnSaver
from stateful_agent.checkpoints.waiting import FORMER_IDS, former_ids
from stateful_agent.graph.build import CompiledGraph


async def fork_with_results(graph: CompiledGraph, saver: TurnSaver, noted: dict[str, Any]) -> None:
    """Fork the checkpoint that `saver` has loaded so that the calls of its tools step run again that had not finished.

    LangGraph itself would run all of them. Steps that asked somebody ask again.
    """
    await _Fork(graph, saver, keeps_interrupts=False).make(noted)


async def fork_to_answer(
    graph: CompiledGraph, saver: TurnSaver, answers: dict[str, Any], noted: dict[str, Any]
) -> dict[str, Any]:
    """Fork the checkpoint that `saver` has loaded, with its interrupts and all that came before them.

    What had ended keeps its results, and a subgraph waits where it was. Returns the answers by the ids that the
    interrupts have in the copy.
    """
    fork = _Fork(graph, saver, keeps_interrupts=True)
    await fork.make(noted)
    return {fork.new_ids[interrupt_id]: answer for interrupt_id, answer in answers.items()}


async def copy_checkpoint(graph: CompiledGraph, saver: TurnSaver) -> None:
    """Copy the checkpoint that `saver` has loaded, with all that its tasks have written, as the thread's head."""
    await _Fork(graph, saver, keeps_interrupts=True).make({})


async def keep_waiting(graph: CompiledGraph, saver: TurnSaver, edited: RunnableConfig) -> None:
    """Let the interrupts of the checkpoint that `saver` has loaded wait at the edited one too."""
    await _Fork(graph, saver, keeps_interrupts=True).copy_tasks_to(edited)


@dataclass
class _Task:
    """A task of a checkpoint that is copied, with what it has written, and the same task of the copy."""

    old: PregelTask
    new: PregelTask
    old_namespace: str
    new_namespace: str
    writes: list[tuple[str, Any]]

    @property
    def output(self) -> list[tuple[str, Any]]:
        return [(channel, value) for channel, value in self.writes if channel not in CONTROL_WRITES]

    @property
    def interrupts(self) -> list[Interrupt]:
        return [interrupt for channel, value in self.writes if channel == INTERRUPT for interrupt in value]

    @property
    def answers(self) -> list[Any]:
        return [answer for channel, value in self.writes if channel == RESUME for answer in value]


class _Fork:
    """A copy of a checkpoint, in the making."""

    def __init__(self, graph: CompiledGraph, saver: TurnSaver, *, keeps_interrupts: bool) -> None:
        self.new_ids: dict[str, str] = {}
        """The ids of the copy's interrupts by those that they had before."""
        self._graph = graph
        self._saver = saver
        self._keeps_interrupts = keeps_interrupts

    async def make(self, noted: dict[str, Any]) -> None:
        base = self._saver.base
        assert base
        before = await self._graph.aget_state(base.config)
        step = base.metadata.get("step", -1) + 1
        checkpoint_id, metadata = new_checkpoint_id(step), {"source": "fork", "step": step, **noted}
        fork = await self._saver.copy(base.config, base, checkpoint_id, metadata)
        after = await self._graph.aget_state(fork)
        await self._copy_tasks(base, fork, before.tasks, after.tasks)
        if self.new_ids:
            former = {old: self.new_ids[new] for old, new in former_ids(base).items() if new in self.new_ids}
            await self._saver.note(fork, {FORMER_IDS: former | self.new_ids})

    async def copy_tasks_to(self, edited: RunnableConfig) -> None:
        base = self._saver.base
        assert base
        before, after = await self._graph.aget_state(base.config), await self._graph.aget_state(edited)
        await self._copy_tasks(base, edited, before.tasks, after.tasks)

    async def _copy_tasks(
        self,
        base: CheckpointTuple,
        fork: RunnableConfig,
        before: Collection[PregelTask],
        after: Collection[PregelTask],
        waiting: Collection[Interrupt] = (),
    ) -> None:
        """Copy what tasks have written. `waiting` are the interrupts of a subgraph, as its parent has them."""
        new_tasks = {task.path: task for task in after}
        for old in before:
            if (new := new_tasks.get(old.path)) is None or new.name != old.name:  # an edit may have changed what is due
                continue
            writes = [(channel, value) for task_id, channel, value in base.pending_writes or () if task_id == old.id]
            task = _Task(old, new, _namespace(base.config, old), _namespace(fork, new), writes)
            if kept := await self._kept(task, waiting):
                await self._saver.add_to_copy(fork, kept, new.id)

    async def _kept(self, task: _Task, waiting: Collection[Interrupt]) -> list[tuple[str, Any]]:
        """What the copy of a task has written."""
        if not self._keeps_interrupts:
            has_result = any(channel == "messages" for channel, _ in task.output)
            return task.output if has_result and not task.interrupts else []
        # A subgraph with a memory of its own may have gone on since. Where it waited its parent knows.
        asked = [interrupt for interrupt in waiting if _answers_before(task, interrupt) is not None]
        if not asked and (task.output or not task.interrupts):
            return task.output
        asked = asked or task.interrupts
        await self._copy_subgraph(task, asked)
        answers: list[Any] = []
        for interrupt in asked:  # one that its subgraph asks is known from there
            count = _answers_before(task, interrupt)
            if interrupt.id not in self.new_ids and count is not None:
                answers = task.answers[:count]
                self.new_ids[interrupt.id] = interrupt_id(task.new_namespace, count)
        moved = [_with_id(interrupt, self.new_ids.setdefault(interrupt.id, interrupt.id)) for interrupt in asked]
        return [(INTERRUPT, moved), *([(RESUME, answers)] if answers else [])]

    async def _copy_subgraph(self, task: _Task, waiting: Collection[Interrupt]) -> None:
        """Copy the checkpoint of a task's subgraph at which it waits, if it has one."""
        if not isinstance(task.old.state, dict):
            return
        own_memory = "|".join(part.partition(":")[0] for part in task.old_namespace.split("|"))
        for old, new in ((task.old_namespace, task.new_namespace), (own_memory, own_memory)):
            found = await self._saver.aget_tuple(config_at(self._saver.thread_id, namespace=old))
            if found is None:
                continue
            before = await self._graph.aget_state(found.config)
            checkpoint_id, parent = found.checkpoint["id"], config_at(self._saver.thread_id, namespace=new)
            if old == new:
                checkpoint_id, parent = new_checkpoint_id(found.metadata.get("step", -1)), found.config
            fork = await self._saver.copy(parent, found, checkpoint_id, {})
            after = await self._graph.aget_state(fork)
            await self._copy_tasks(found, fork, before.tasks, after.tasks, waiting)
            return


def _answers_before(task: _Task, interrupt: Interrupt) -> int | None:
    """How many answers a task had when it raised an interrupt; `None`: it is another's."""
    counts = range(len(task.answers) + 1)
    return next((n for n in counts if interrupt_id(task.old_namespace, n) == interrupt.id), None)


def _namespace(config: RunnableConfig, task: PregelTask) -> str:
    """The namespace of a task, by which its interrupts are named and its subgraph's checkpoints are stored."""
    outer = config["configurable"].get("checkpoint_ns", "")
    return f"{outer}|{task.name}:{task.id}" if outer else f"{task.name}:{task.id}"


def _with_id(interrupt: Interrupt, new_id: str) -> Interrupt:
    moved = copy.copy(interrupt)
    moved.id = new_id
    return moved
