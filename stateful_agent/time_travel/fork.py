"""Forks of a checkpoint at which some tasks have ended and others have not: what has ended does not run again.

LangGraph knows what a task has written by the checkpoint that it is stored at. So the checkpoint is copied, and what is
kept of its tasks is stored at the copy.
"""

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Interrupt, PregelTask

from stateful_agent.checkpoints.langgraph_internals import CONTROL_WRITES, INTERRUPT, RESUME, interrupt_at
from stateful_agent.checkpoints.saver import TurnSaver, config_at
from stateful_agent.graph.build import CompiledGraph


async def fork_with_results(graph: CompiledGraph, saver: TurnSaver) -> None:
    """Fork the checkpoint that `saver` has loaded so that the calls of its tools step run again that had not finished.

    LangGraph itself would run all of them. Steps that asked somebody ask again.
    """
    assert saver.base
    await _Fork(graph, saver, None).copy_head(saver.base)


async def fork_to_answer(graph: CompiledGraph, saver: TurnSaver, answers: dict[str, Any]) -> dict[str, Any]:
    """Fork the checkpoint that `saver` has loaded so that its interrupts of these ids wait again.

    The other tasks keep what they have written, and so does a subgraph what came before the interrupt. Returns the
    answers by the interrupts' ids in the copy.
    """
    assert saver.base
    fork = _Fork(graph, saver, answers.keys())
    await fork.copy_head(saver.base)
    return {fork.new_ids[interrupt_id]: answer for interrupt_id, answer in answers.items()}


@dataclass
class _Task:
    """A task of the checkpoint that is copied, and what it has written."""

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
        values = (value for channel, value in self.writes if channel == INTERRUPT)
        return [interrupt for value in values for interrupt in (value if isinstance(value, list | tuple) else [value])]

    @property
    def answers(self) -> list[Any]:
        values: list[Any] = [value for channel, value in self.writes if channel == RESUME]
        return list(values[0]) if values and isinstance(values[0], list) else values


class _Fork:
    """A copy of a checkpoint, in the making."""

    def __init__(self, graph: CompiledGraph, saver: TurnSaver, answered: Collection[str] | None) -> None:
        """`answered` are the ids of the interrupts that are to wait again; `None`: a replay, where all ask again."""
        self.new_ids: dict[str, str] = {}
        self._graph = graph
        self._saver = saver
        self._answered = answered

    async def copy_head(self, base: CheckpointTuple) -> None:
        before = await self._graph.aget_state(base.config)
        fork = await self._graph.aupdate_state(base.config, None, as_node="__copy__")
        after = await self._graph.aget_state(fork)
        await self._copy_tasks(base, fork, before.tasks, after.tasks)

    async def _copy_tasks(
        self, base: CheckpointTuple, fork: RunnableConfig, before: tuple[PregelTask, ...], after: tuple[PregelTask, ...]
    ) -> None:
        for old, new in zip(before, after, strict=True):
            writes = [(channel, value) for task_id, channel, value in base.pending_writes or () if task_id == old.id]
            task = _Task(old, new, _namespace(base.config, old), _namespace(fork, new), writes)
            if kept := await self._kept(task):
                await self._saver.aput_writes(fork, kept, new.id)

    async def _kept(self, task: _Task) -> list[tuple[str, Any]]:
        """What the copy of a task has written."""
        if self._answered is None:
            is_result = any(channel == "messages" for channel, _ in task.output)
            return task.output if is_result and not task.interrupts else []
        ids = {interrupt.id for interrupt in task.interrupts}
        if task.output and not ids & set(self._answered):
            return task.output
        if not task.interrupts:
            return []
        if isinstance(task.old.state, dict):
            await self._copy_subgraph(task, ids)
        moved, answers = [], task.answers
        for interrupt in task.interrupts:
            if interrupt.id in self.new_ids:  # asked within the subgraph
                interrupt, answers = _with_id(interrupt, self.new_ids[interrupt.id]), []
            else:
                old_id = interrupt.id
                interrupt, answers = interrupt_at(interrupt, task.old_namespace, answers, task.new_namespace)
                self.new_ids[old_id] = interrupt.id
            moved.append(interrupt)
        return [(INTERRUPT, moved), *([(RESUME, answers)] if answers else [])]

    async def _copy_subgraph(self, task: _Task, ids: set[str]) -> None:
        """Copy the checkpoint of a task's subgraph at which it waited for these interrupts."""
        async for found in self._saver.alist(config_at(self._saver.thread_id, namespace=task.old_namespace)):
            asked = (value for _, channel, value in found.pending_writes or () if channel == INTERRUPT)
            if any(interrupt.id in ids for value in asked for interrupt in value):
                break
        else:  # it has none of its own
            return
        before = await self._graph.aget_state(found.config)
        versions = found.checkpoint["channel_versions"]
        at = config_at(self._saver.thread_id, namespace=task.new_namespace)
        fork = await self._saver.aput(at, found.checkpoint, found.metadata, versions)
        after = await self._graph.aget_state(fork)
        await self._copy_tasks(found, fork, before.tasks, after.tasks)


def _namespace(config: RunnableConfig, task: PregelTask) -> str:
    """The namespace of a task, in which its interrupts are named and its subgraph is stored."""
    outer = config["configurable"].get("checkpoint_ns", "")
    return f"{outer}|{task.name}:{task.id}" if outer else f"{task.name}:{task.id}"


def _with_id(interrupt: Interrupt, interrupt_id: str) -> Interrupt:
    moved = copy.copy(interrupt)
    moved.id = interrupt_id
    return moved
