"""Waiting for what a workspace does in its own time."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from stateful_agent.deploy.failure import Failure

POLL_SECONDS = 5.0


@dataclass(frozen=True)
class State:
    """How far something is."""

    words: str
    is_ready: bool = False
    has_failed: bool = False


def wait_until_ready(name: str, look: Callable[[], State], tell: Callable[[str], None], minutes: float) -> None:
    """Look every few seconds until something is ready, and tell each change on the way.

    Raises:
        Failure: it has failed, or is not ready within these minutes.
    """
    began, told = time.monotonic(), ""
    while True:
        state = look()
        seconds = int(time.monotonic() - began)
        if state.words != told:
            tell(f"{seconds // 60}:{seconds % 60:02} {state.words}")
            told = state.words
        if state.is_ready:
            return
        if state.has_failed:
            raise Failure(f"{name} is not served: {state.words}. See: logs {name}")
        if seconds >= minutes * 60:
            raise Failure(f"{name} is not ready after {minutes:g} minutes. The same command goes on waiting.")
        time.sleep(POLL_SECONDS)
