"""Whose request it is. A thread belongs to the user who began it; for anyone else it does not exist."""

from enum import Enum
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from mlflow.types.agent import ChatContext

from stateful_agent.errors import Unidentified
from stateful_agent.responses.thread_ref import check_id


class AllUsers(Enum):
    """What stands for a user where a request may reach the threads of all of them."""

    ALL_USERS = "all users"


ALL_USERS: Final = AllUsers.ALL_USERS
"""Asked for by name, by whoever operates the agent. It is also what a request is where users are not told apart."""

User: TypeAlias = str | AllUsers


def identify(named: User | None, context: ChatContext | None, trusted_identity: str | None) -> User:
    """The user whose threads a request may reach.

    `named` is whom the caller acts for: a user named in Python, or by the header of `TRUSTED_IDENTITY`. `context` is
    the request's own, which counts if `trusted_identity` is `context`.

    Raises:
        Unidentified: TRUSTED_IDENTITY is set, and nobody has named a user.
        InvalidRequest: the context names one that storage cannot hold.
    """
    if named is not None:
        return named
    if trusted_identity is None:
        return ALL_USERS
    if trusted_identity == "context" and context and context.user_id and context.user_id.strip():
        return check_id(context.user_id.strip(), "user_id")
    raise Unidentified()


def stored_ids(user: User, thread_id: str) -> list[str]:
    """The ids under which a user's thread of that name may be stored: one in the user's own space, which a new thread
    gets, and the name itself, which it got before there were such spaces.

    Where threads of all users are asked for, the name is the stored id.
    """
    return [thread_id] if user is ALL_USERS else [_space(user) + thread_id, thread_id]


def told_id(user: User, stored_id: str) -> str:
    """What a user calls the thread that is stored under an id."""
    return stored_id if user is ALL_USERS else stored_id.removeprefix(_space(user))


def _space(user: str) -> str:
    """No user's begins like another's: a slash in the name is encoded."""
    return f"{quote(user, safe='@')}/"


def owner_parameters(user: User) -> dict[str, Any]:
    """The parameters by which a statement reaches the threads of a user only."""
    return {"all_users": user is ALL_USERS, "owner": None if user is ALL_USERS else user}
