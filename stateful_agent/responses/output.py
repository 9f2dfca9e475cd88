"""The output of a response, item by item, and the events about it. Pure.

https://platform.openai.com/docs/api-reference/responses-streaming. Each item is opened, filled and closed before
the next one opens; its id and its index are the same in every event about it.
"""

from collections.abc import Sequence
from typing import cast

from langchain_core.messages import ToolMessage

from stateful_agent.responses.annotations import Annotation, Citation, annotations_of
from stateful_agent.responses.items import as_unicode, call_item, mcp_item, part, result_item, text_item
from stateful_agent.responses.types import Event, Item, Kind

NAMES: dict[Kind, tuple[str, str, str, str]] = {
    "output_text": ("response.content_part", "response.output_text", "content_index", "text"),
    "refusal": ("response.content_part", "response.refusal", "content_index", "refusal"),
    "reasoning": ("response.reasoning_summary_part", "response.reasoning_summary_text", "summary_index", "text"),
}
"""Of each kind of content: what the events of its part and of its text are called, its index, and its text."""


class Output:
    """The items of a response so far, and the events about them.

    Events that something is done are held back, with all that follow, until `stored`: a client that has them may go
    away. Reasoning is not worth that.
    """

    def __init__(self, response_id: str) -> None:
        self.items: list[Item] = []
        self.opening: list[Event] = []
        """The events to send before the first of an item."""
        self.held: list[Event] = []
        self._response_id = response_id
        self._ready: list[Event] = []
        self._sequence_number = 0
        self._ids: set[str] = set()
        self._kind: Kind | None = None
        self._text: list[str] = []
        """The text that is open, so far."""
        self._length = 0
        self._blocks: dict[int, tuple[int, int]] = {}
        """Where each block of the model's begins and ends in it."""
        self._citations: list[tuple[int, Citation]] = []
        """What the blocks rest on."""
        self._delta: Event = {}
        """The event that adds to it, without the addition."""

    # -- Text, reasoning and refusals ------------------------------------------------------------------------------

    @property
    def kind(self) -> Kind | None:
        """The kind of the text that is open."""
        return self._kind

    def begin_text(self, kind: Kind, item_id: str | None) -> None:
        """Open an item for text of a kind."""
        part_event, text_event, index, _ = NAMES[kind]
        item = text_item(self._unique(item_id), kind, "")
        empty = {"status": "in_progress", "content" if "content" in item else "summary": []}
        self._added(cast(Item, item | empty))
        about = {"item_id": item["id"], "output_index": len(self.items), index: 0}
        self.send({"type": f"{part_event}.added", **about, "part": part(kind, "")})
        self._kind, self._delta = kind, {"type": f"{text_event}.delta", **about, **_logprobs(kind)}

    def add_text(self, text: str, block: int = 0, citations: Sequence[Citation] = ()) -> None:
        """Add to the text that is open, and to what that block of it rests on."""
        if not text.isascii():
            text = as_unicode(text)
        begin, self._length = self._length, self._length + len(text)
        self._blocks[block] = (self._blocks.get(block, (begin,))[0], self._length)
        self._citations += [(block, citation) for citation in citations]
        if text:
            self._text.append(text)
            self.send({**self._delta, "delta": text})

    def end_text(self) -> None:
        """Close the text that is open, if any."""
        if self._kind is None:
            return
        part_event, text_event, index, field = NAMES[self._kind]
        text = "".join(self._text)
        about = {name: self._delta[name] for name in ("item_id", "output_index", index)}
        holds = self._kind != "reasoning"
        annotations = self._annotations()
        for n, annotation in enumerate(annotations):
            added = {"type": f"{text_event}.annotation.added", **about, "annotation_index": n, "annotation": annotation}
            self.send(added)
        self.send({"type": f"{text_event}.done", **about, field: text, **_logprobs(self._kind)}, holds=holds)
        self.send({"type": f"{part_event}.done", **about, "part": part(self._kind, text, annotations)}, holds=holds)
        self._done(text_item(about["item_id"], self._kind, text, annotations), holds=holds)
        self._kind, self._length = None, 0
        self._text.clear()
        self._blocks.clear()
        self._citations.clear()

    def _annotations(self) -> list[Annotation]:
        """Those of the text that is open, now that it is known where each block of it ends."""
        return [
            annotation
            for block, citation in self._citations
            for annotation in annotations_of([citation], *self._blocks[block])
        ]

    # -- Calls and their results -----------------------------------------------------------------------------------

    def begin_call(self, item_id: str | None, call_id: str, name: str) -> str:
        """Open an item for a call. Returns the item's id."""
        item = call_item(self._unique(item_id), call_id, name, "", "in_progress")
        self._added(item)
        return str(item["id"])

    def add_arguments(self, item_id: str, new: str, *, item_type: str = "function_call") -> None:
        """Add to the arguments of the call that is open."""
        if new:
            about = {"item_id": item_id, "output_index": len(self.items)}
            self.send({"type": f"response.{item_type}_arguments.delta", **about, "delta": new})

    def end_call(self, item_id: str, call_id: str, name: str, arguments: str, *, is_complete: bool) -> None:
        """Close the call that is open."""
        self._arguments_done("function_call", item_id, arguments, name=name)
        self._done(call_item(item_id, call_id, name, arguments, "completed" if is_complete else "incomplete"))

    def add_result(self, result: ToolMessage) -> None:
        """Add a tool's result."""
        self.add_item(result_item(self._unique(result.id), result))

    def add_item(self, item: Item) -> None:
        """Add an item that is complete from the start."""
        self._added(item)
        self._done(item)

    def add_mcp_call(
        self, item_id: str | None, server: str, name: str, arguments: str, result: ToolMessage | None
    ) -> None:
        """Add a call and its result, if it has one, as one item."""
        unique = self._unique(item_id)
        about = {"item_id": unique, "output_index": len(self.items)}
        self._added(mcp_item(unique, server, name))
        self.send({"type": "response.mcp_call.in_progress", **about})
        self.add_arguments(unique, arguments, item_type="mcp_call")
        self._arguments_done("mcp_call", unique, arguments)
        item = mcp_item(unique, server, name, arguments, result, ended=True)
        if result is not None:
            self.send({"type": f"response.mcp_call.{item['status']}", **about})
        self._done(item)

    def _arguments_done(self, item_type: str, item_id: str, arguments: str, **more: str) -> None:
        about = {"item_id": item_id, "output_index": len(self.items), **more}
        self.send({"type": f"response.{item_type}_arguments.done", **about, "arguments": arguments}, holds=True)

    # -- Events ----------------------------------------------------------------------------------------------------

    def ready(self) -> list[Event]:
        """The events that may be sent now."""
        ready, self._ready = self._ready, []
        return ready

    def stored(self) -> list[Event]:
        """The same once all that they are about is on disk."""
        held, self.held = self.held, []
        for event in held:
            self.send(event)
        return self.ready()

    def begin(self) -> None:
        """Send what comes before the first item, if that has not been sent."""
        opening, self.opening = self.opening, []
        for event in opening:
            self.send(event)

    def send(self, event: Event, *, holds: bool = False) -> None:
        """Send an event now, or once all is on disk if it `holds` back or another one does."""
        if holds or self.held:
            self.held.append(event)
        else:
            event["sequence_number"] = self._sequence_number
            self._sequence_number += 1
            self._ready.append(event)

    def _added(self, item: Item) -> None:
        self.begin()
        self.send({"type": "response.output_item.added", "output_index": len(self.items), "item": item})

    def _done(self, item: Item, *, holds: bool = True) -> None:
        event = {"type": "response.output_item.done", "output_index": len(self.items), "item": item}
        self.send(event, holds=holds)
        self.items.append(item)

    def _unique(self, item_id: str | None) -> str:
        """An item's id, or one like it: a model may give the same to two messages, and a client cannot have that."""
        unique = wanted = item_id or f"{self._response_id}-{len(self.items)}"
        while unique in self._ids:
            unique = f"{wanted}-{len(self._ids)}"
        self._ids.add(unique)
        return unique


def _logprobs(kind: Kind) -> Event:
    """The probabilities of a text's tokens, which are not known here."""
    return {"logprobs": []} if kind == "output_text" else {}
