"""The user whom a request names by the header of `TRUSTED_IDENTITY`."""

from typing import Annotated, TypeAlias

from fastapi import Depends, Request


async def named_user(request: Request) -> str | None:
    """The user; `None` where no header is trusted, or it is not there."""
    header = request.app.state.user_header
    return (request.headers.get(header) or None) if header else None


NamedUser: TypeAlias = Annotated[str | None, Depends(named_user)]
"""As a route's parameter: the user whom its request names."""
