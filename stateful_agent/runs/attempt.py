"""Which call a request belongs to. Clients send one again by themselves, and it must not become a second turn.

A request that is an attempt at a call carries what tells it from others along: the id of its response, and a digest
of its body. Who finds the thread taken, or is known to be a retry, compares them (lease.py).
"""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from stateful_agent.errors import InvalidRequest

KEYS = UUID("5f0c6f6e-7b1c-4b7e-9a55-3d2f6a1e8c40")
"""Names the ids that are made of a caller's keys."""


class Attempt:
    """One request for a turn, as others can find it."""

    def __init__(self, response_id: str, digest: bytes, *, is_retry: bool) -> None:
        """`digest` is that of its body; `is_retry`: its client has sent it before."""
        self.response_id, self.digest, self.is_retry = response_id, digest, is_retry
        self.thread_id = ""
        self.holder: UUID | None = None
        self.is_begun = False
        """Whether it has its thread and is known to be good. What fails later has left something in the thread."""
        self.is_accepted = asyncio.Event()
        """Whether it has begun, or waits for its thread."""

    def place(self, thread_id: str, holder: UUID) -> None:
        """It has its thread, or waits for it: from now on others can find it, by the row that says so."""
        self.thread_id, self.holder = thread_id, holder


def attempt_of(headers: Mapping[str, str], body: Mapping[str, Any], caller: str | None) -> Attempt:
    """The attempt that a request is. With an `Idempotency-Key`, its id follows from the caller and the key.

    Raises:
        InvalidRequest: the key is too long, or the body too deep.
    """
    key, count = headers.get("idempotency-key"), headers.get("x-stainless-retry-count", "")
    if key is not None and not 1 <= len(key) <= 255:
        raise InvalidRequest("Idempotency-Key must have 1 to 255 characters.", param="Idempotency-Key")
    context = body.get("context")  # says whose request it is where no header does
    user = [caller, context.get("user_id") if isinstance(context, dict) else None]
    name = uuid.uuid4() if key is None else uuid.uuid5(KEYS, json.dumps([*user, key]))
    try:
        asked = {name: value for name, value in body.items() if name not in ("stream", "background")}
        said = json.dumps(asked, sort_keys=True)
    except RecursionError as error:
        raise InvalidRequest("The request's body is nested too deeply.") from error
    return Attempt(f"resp_{name.hex}", hashlib.sha256(said.encode()).digest(), is_retry=count.strip("0").isdigit())


_attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def current_attempt() -> Attempt | None:
    """The attempt that the current request is; `None` if others need not find it."""
    return _attempt.get()


@contextmanager
def attempting(attempt: Attempt | None) -> Iterator[None]:
    """Let what is called here belong to that attempt."""
    token = _attempt.set(attempt)
    try:
        yield
    finally:
        _attempt.reset(token)


def as_parameters(attempt: Attempt | None) -> dict[str, Any]:
    """What `functions.TAKE` wants to know of it."""
    if attempt is None:
        return {"response_id": None, "digest": None, "is_retry": False}
    return {"response_id": attempt.response_id, "digest": attempt.digest, "is_retry": attempt.is_retry}


def note_begun() -> None:
    """The current attempt is known to be good, and has its thread."""
    if attempt := current_attempt():
        attempt.is_begun = True
        attempt.is_accepted.set()


def new_response_id() -> str:
    """The id of the current attempt's response."""
    attempt = current_attempt()
    return attempt.response_id if attempt else f"resp_{uuid.uuid4().hex}"


def new_thread_id() -> str:
    """The id of a thread that the current request begins: a second attempt with the same key finds the first's."""
    attempt = current_attempt()
    return str(UUID(attempt.response_id.removeprefix("resp_")) if attempt else uuid.uuid4())
