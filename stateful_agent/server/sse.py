"""Events as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse

from stateful_agent.errors import ShuttingDown, typed
from stateful_agent.responses.events import error_event
from stateful_agent.responses.types import Event


def event_stream(first: list[Event], rest: AsyncIterator[list[Event]]) -> StreamingResponse:
    """A response that streams batches of events, the first of which is there already."""
    return StreamingResponse(_lines(first, rest), media_type="text/event-stream")


async def _lines(first: list[Event], rest: AsyncIterator[list[Event]]) -> AsyncIterator[str]:
    """Whatever ends the events early becomes the last of them."""
    last = first[-1]["sequence_number"] if first else -1
    try:
        yield _as_text(first)
        async for batch in rest:
            yield _as_text(batch)
            last = batch[-1]["sequence_number"] if batch else last
    except (Exception, asyncio.CancelledError) as error:  # cancelled: the server stops, and has waited long enough
        why = typed(error) if isinstance(error, Exception) else ShuttingDown()
        yield _as_text([error_event(why, sequence_number=last + 1)])
    yield "data: [DONE]\n\n"


def _as_text(events: list[Event]) -> str:
    """The events, or if there is none, a comment that keeps the connection alive."""
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) or ": keep-alive\n\n"
