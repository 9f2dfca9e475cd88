"""What of a conversation is sent to a model whose context window it is too long for. What is stored stays. Pure."""

from collections.abc import Sequence
from itertools import accumulate
from math import ceil

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.messages.utils import count_tokens_approximately

MARGIN = 0.9
"""How much of a window is used, as tokens are counted without the provider's tokenizer."""


def window_of(model: BaseChatModel) -> int | None:
    """How many tokens a model takes, as far as LangChain knows."""
    window = (model.profile or {}).get("max_input_tokens")
    return int(window * MARGIN) if window else None


def room_beside(prompt: Sequence[AnyMessage], max_output_tokens: int | None, *limits: int | None) -> float:
    """How many tokens a conversation may take beside the `prompt` before it, and the answer, within all `limits`."""
    taken = count_tokens_approximately(prompt) + (max_output_tokens or 0)
    return min((limit for limit in limits if limit is not None), default=float("inf")) - taken


def newest_turns(messages: Sequence[AnyMessage], room: float) -> Sequence[AnyMessage]:
    """The newest turns of a conversation that take about `room` tokens at most, but at least the last one.

    Turns are whole, so that no result is sent without its call. Where some are left out, more are than need be, by up
    to a quarter of the room: so what is sent begins in the same way for some turns, and the provider can cache it.
    """
    sizes = [count_tokens_approximately([message]) for message in messages]
    excess = sum(sizes) - room
    if excess <= 0:
        return messages
    step = max(room / 4, 1)
    left_out = ceil(excess / step) * step
    before = dict(enumerate(accumulate(sizes, initial=0)))  # the tokens before each message
    begins = [n for n in range(len(messages)) if _begins_turn(messages, n)] or [0]
    return messages[next((n for n in begins if before[n] >= left_out), begins[-1]) :]


def oldest_turns(messages: Sequence[AnyMessage], room: int) -> Sequence[AnyMessage]:
    """The oldest turns of a conversation that take about `room` tokens at most, but at least the first one."""
    ends = [n for n in range(1, len(messages)) if _begins_turn(messages, n)] + [len(messages)]
    sizes = list(accumulate(count_tokens_approximately([message]) for message in messages))
    return messages[: max((end for end in ends if sizes[end - 1] <= room), default=ends[0])]


def _begins_turn(messages: Sequence[AnyMessage], n: int) -> bool:
    return isinstance(messages[n], HumanMessage) and not (n and isinstance(messages[n - 1], HumanMessage))
