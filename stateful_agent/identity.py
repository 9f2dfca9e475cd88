"""Whose request it is. A thread belongs to whoever began it; for anyone else it does not exist."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from mlflow.types.responses import ResponsesAgentRequest

from stateful_agent.errors import Unidentified
from stateful_agent.responses.thread_ref import check_id

_caller: ContextVar[str | None] = ContextVar("caller", default=None)


def caller() -> str | None:
    """The user whose threads the current request may see. `None` may see all: no user is told apart."""
    return _caller.get()


@contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Let what is called here be a request of `user`'s."""
    token = _caller.set(user)
    try:
        yield
    finally:
        _caller.reset(token)


def as_caller_of(request: ResponsesAgentRequest, trusted_identity: str | None) -> AbstractContextManager[None]:
    """Let what is called here be a request of its user's, if users are told apart and nobody has said yet whose.

    Raises:
        Unidentified: the request does not say.
    """
    if trusted_identity is None or caller() is not None:
        return nullcontext()
    if trusted_identity != "context" or not (request.context and request.context.user_id):
        raise Unidentified()
    return acting_as(check_id(request.context.user_id, "user_id"))
