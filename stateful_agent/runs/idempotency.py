"""Which requests are the same: clients send one again by themselves, and it must not become a second turn. Pure."""

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.errors import InvalidRequest
from stateful_agent.identity import User

KEYS = UUID("5f0c6f6e-7b1c-4b7e-9a55-3d2f6a1e8c40")
"""Names the ids that are made of callers' keys."""


def attempt_of(
    headers: Mapping[str, str], body: Mapping[str, Any], user: User | None, digest: Callable[[bytes], bytes]
) -> Attempt:
    """The attempt that a request is. With an `Idempotency-Key`, its id follows from the user and the key.

    The request is known again by the `digest` of its body.

    Without, `x-stainless-retry-count`, which OpenAI's clients send, says whether it is a retry.

    Raises:
        InvalidRequest: the key is too long, or the body too deep.
    """
    key, count = headers.get("idempotency-key"), headers.get("x-stainless-retry-count", "")
    if key is not None and not 1 <= len(key) <= 255:
        raise InvalidRequest("Idempotency-Key must have 1 to 255 characters.", param="Idempotency-Key")
    context = body.get("context")  # names the user where no header does
    users = [user if isinstance(user, str) else None, context.get("user_id") if isinstance(context, dict) else None]
    name = uuid.uuid4() if key is None else uuid.uuid5(KEYS, json.dumps([*users, key]))
    try:
        asked = {name: value for name, value in body.items() if name not in ("stream", "background")}
        text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    except RecursionError as error:
        raise InvalidRequest("The request's body is nested too deeply.") from error
    return Attempt(f"resp_{name.hex}", digest(text.encode()), is_retry=count.strip("0").isdigit())
