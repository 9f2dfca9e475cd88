"""The user whom a request names by the header of `TRUSTED_IDENTITY`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.errors import Unidentified
from stateful_agent.responses.thread_ref import check_id


async def named_user(request: Request) -> str | None:
    """The user; `None` where no header is trusted, or it is not there.

    Raises:
        Unidentified: the header is there twice. A proxy that adds its own to the client's has named nobody.
        InvalidRequest: it holds what storage cannot.
    """
    header = request.app.state.user_header
    named = request.headers.getlist(header) if header else []
    if len(named) > 1:
        raise Unidentified(f"The request has the header {header} {len(named)} times: it names nobody.")
    name = named[0].strip() if named else ""
    return check_id(name, str(header)) if name else None


NamedUser: TypeAlias = Annotated[str | None, Depends(named_user)]
"""As a route's parameter: the user whom its request names."""


def acting(agent: LangGraphResponsesAgent) -> Callable[..., Awaitable[LangGraphResponsesAgent]]:
    """A dependency of routes: the agent, acting for the user whom the request names."""

    async def acting_agent(user: NamedUser) -> LangGraphResponsesAgent:
        return agent if user is None else agent.as_user(user)

    return acting_agent
