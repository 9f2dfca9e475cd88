"""Whose request it is. A thread belongs to whoever began it; for anyone else it does not exist."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
