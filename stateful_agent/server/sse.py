"""Events as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial

from fastapi.responses import StreamingResponse

from stateful_agent.errors import ShuttingDown
from stateful_agent.failures import typed
from stateful_agent.heavy_work import compute
from stateful_agent.responses.events import error_event
from stateful_agent.responses.types import Event


def event_stream(first: list[Event], rest: AsyncIterator[list[Event]], *, data_only: bool = False) -> StreamingResponse:
    """A response that streams batches of events, the first of which is there already.

    Each event is named by its type, and a silence is filled with comments; MLflow's client bears neither, so with
    `data_only` there is nothing but data.
    """
    as_text = _as_data if data_only else _as_text
    return StreamingResponse(_lines(first, rest, as_text), media_type="text/event-stream")


async def _lines(
    first: list[Event], rest: AsyncIterator[list[Event]], as_text: Callable[[list[Event]], str]
) -> AsyncIterator[str]:
    """Whatever ends the events early becomes the last of them."""
    last = first[-1]["sequence_number"] if first else -1
    try:
        yield await compute(partial(as_text, first), first)
        async for batch in rest:
            yield await compute(partial(as_text, batch), batch)
            last = batch[-1]["sequence_number"] if batch else last
    except (Exception, asyncio.CancelledError) as error:  # cancelled: the server stops, and has waited long enough
        why = typed(error) if isinstance(error, Exception) else ShuttingDown()
        yield as_text([error_event(why, sequence_number=last + 1)])
    yield "data: [DONE]\n\n"


def _as_text(events: list[Event]) -> str:
    """The events, or if there is none, a comment that keeps the connection alive."""
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events) or ": keep-alive\n\n"


def _as_data(events: list[Event]) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)
