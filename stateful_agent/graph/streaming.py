"""Which steps of a graph have their words told as they come, and which once it is known that they are kept.

A step may ask a model something for itself (a router, a summary), or put another message in the place of an answer (a
guardrail). Its code shows which it is, as far as that can be read; where it misleads, it is learned from what the step
writes. A node's `metadata={"stream": True}`, or `False`, decides.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langgraph.graph import END
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode

from stateful_agent.graph.build import CompiledGraph
from stateful_agent.responses.types import When


class StepStreams:
    """When the words of each step of a graph are told."""

    def __init__(self, graph: CompiledGraph) -> None:
        self._graph = graph
        self._when: dict[str, When] = {}

    def when(self, step: str) -> When:
        """When the words of a step are told: `step` is the path of nodes to it, as in `outer|inner`."""
        if step not in self._when:
            self._when[step] = self._decide(step)
        return self._when[step]

    def was_dropped(self, step: str) -> None:
        """What a model said in this step is not among the messages that the step has written."""
        if self._when.get(step) == "at once":
            self._when[step] = "after the step"

    def _decide(self, step: str) -> When:
        graph = self._graph
        for name in step.split("|"):
            node = graph.builder.nodes.get(name)
            if node is None:
                return "after the step"
            chosen = (node.metadata or {}).get("stream")
            if isinstance(chosen, bool):
                return "at once" if chosen else "at the end"
            if any(_replaces_messages(graph, later) for later in _reachable(graph, name) - {name}):
                return "at the end"
            subgraph = _graph_in(node.runnable)
            if subgraph is not None:
                graph = subgraph
                continue
            writes = _writes_messages(node.runnable)
            return "at once" if (_can_end(graph, name) if writes is None else writes) else "after the step"
        return "at once"


def step_path(namespace: str) -> str:
    """The path of nodes to a step, from the namespace of its task: `outer|inner` from `outer:1234|inner:5678`."""
    return "|".join(part.partition(":")[0] for part in namespace.split("|"))


def written_in(update: dict[str, Any]) -> Iterator[Any]:
    """What steps have written to `messages`, in an update as LangGraph streams it."""
    for values in update.values():
        for each in values if isinstance(values, list) else [values]:
            if isinstance(each, dict) and each.get("messages") is not None:
                yield each["messages"]


def _reachable(graph: CompiledGraph, name: str) -> set[str]:
    """The steps that may follow a step."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for following in _next(graph, waiting.pop()):
            if following not in found and following != END:
                found.add(following)
                waiting.append(following)
    return found


def _next(graph: CompiledGraph, name: str) -> Iterator[str]:
    builder = graph.builder
    yield from (end for begin, end in builder.edges if begin == name)
    yield from (end for begins, end in builder.waiting_edges if name in begins)
    for branch in builder.branches.get(name, {}).values():
        yield from branch.ends.values() if branch.ends else [*builder.nodes, END]
    ends = builder.nodes[name].ends if name in builder.nodes else ()
    yield from ends or ()


def _can_end(graph: CompiledGraph, name: str) -> bool:
    """Whether a turn may end with a step."""
    following = set(_next(graph, name))
    return not following or END in following


def _graph_in(runnable: Any) -> CompiledGraph | None:
    return runnable if isinstance(runnable, CompiledStateGraph) else None


def _function_of(runnable: Any) -> Callable[..., Any] | None:
    return getattr(runnable, "afunc", None) or getattr(runnable, "func", None)


def _replaces_messages(graph: CompiledGraph, name: str) -> bool:
    """Whether a step may put a message in the place of an earlier one."""
    runnable = graph.builder.nodes[name].runnable
    if isinstance(runnable, ToolNode) or _graph_in(runnable) is not None:
        return False
    function = _function_of(runnable)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, AgentMiddleware):
        after = name.endswith((".after_model", ".after_agent"))
        return after and not isinstance(owner, HumanInTheLoopMiddleware)
    tree = _tree_of(function)
    if tree is None or _writes_messages(runnable) is False:
        return False
    return any(
        (isinstance(node, ast.keyword) and node.arg == "id")
        or (isinstance(node, ast.Attribute) and node.attr == "model_copy")
        or (isinstance(node, ast.Name) and node.id == "RemoveMessage")
        for node in ast.walk(tree)
    )


def _writes_messages(runnable: Any) -> bool | None:
    """Whether a step writes to `messages`, as far as its code shows; `None`: it does not show."""
    function = _function_of(runnable)
    if (getattr(function, "__module__", None) or "").startswith("langchain.agents"):
        return True
    tree = _tree_of(function)
    if tree is None:
        return None
    found = [_has_messages(node.value) for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value]
    return True if True in found else None if None in found or not found else False


def _has_messages(value: ast.expr) -> bool | None:
    match value:
        case ast.Dict(keys=keys):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            return True if "messages" in names else None if None in names else False
        case ast.Call(keywords=keywords):  # Command(update=...)
            updates = [keyword.value for keyword in keywords if keyword.arg == "update"]
            return _has_messages(updates[0]) if updates else None
        case ast.Constant(value=None):
            return False
        case _:
            return None


def _tree_of(function: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
