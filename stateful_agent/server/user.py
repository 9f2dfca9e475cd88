"""The user whom a request names by the header of `TRUSTED_IDENTITY`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from stateful_agent.agent import LangGraphResponsesAgent


async def named_user(request: Request) -> str | None:
    """The user; `None` where no header is trusted, or it is not there."""
    header = request.app.state.user_header
    return (request.headers.get(header) or None) if header else None


NamedUser: TypeAlias = Annotated[str | None, Depends(named_user)]
"""As a route's parameter: the user whom its request names."""


def acting(agent: LangGraphResponsesAgent) -> Callable[..., Awaitable[LangGraphResponsesAgent]]:
    """A dependency of routes: the agent, acting for the user whom the request names."""

    async def acting_agent(user: NamedUser) -> LangGraphResponsesAgent:
        return agent if user is None else agent.as_user(user)

    return acting_agent
