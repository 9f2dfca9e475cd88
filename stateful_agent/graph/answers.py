"""What models answer, whichever provider's they are: in time, and with what is noted of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from stateful_agent.responses.types import CustomOutputs

T = TypeVar("T")

ANSWERED_BY = "answered_by"
"""Where the name of a model is noted that answered in the place of another."""

MESSAGES_LEFT_OUT = "messages_left_out"
"""Where it is noted how many of the oldest messages were not sent to the model."""

PASSED_ON_ALONE = 10
"""Of how many first chunks each is passed on before the next is taken. A model that has many at hand would have all
taken before the first is emitted. For the rest, that others wait less is worth less than the time of the switches."""


def name_of(model: BaseChatModel) -> str:
    """A model in words: its class, and what its provider calls it."""
    names = (getattr(model, name, None) for name in ("model_name", "model_id", "model"))
    return " ".join([type(model).__name__, *(str(name) for name in names if name)][:2])


def noted_of(messages: Any) -> CustomOutputs:
    """What the model step has noted of an answer that a caller is to know: `ANSWERED_BY`, `MESSAGES_LEFT_OUT`."""
    first = messages[0] if isinstance(messages, list) and messages else None
    metadata = first.response_metadata if isinstance(first, AIMessage) else {}
    noted = {name: metadata[name] for name in (ANSWERED_BY, MESSAGES_LEFT_OUT) if name in metadata}
    return cast(CustomOutputs, noted)


async def collect(answer: AsyncIterator[T], chunks: list[T], silence: float | None) -> None:
    """Add the chunks of an answer to a list as they come. For the first, the model's client has a limit of its own.

    Raises:
        TimeoutError: once the answer had begun, there was none for `silence` seconds.
    """
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(None) as limit:
            async for chunk in answer:
                chunks.append(chunk)
                if len(chunks) <= PASSED_ON_ALONE:
                    await asyncio.sleep(0)
                if silence and (len(chunks) == 1 or clock() > (limit.when() or 0) - silence + 1):
                    limit.reschedule(clock() + silence + 1)  # not for each chunk: a second more does not matter
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"it was silent for {silence:g} seconds amid its answer.") from error
