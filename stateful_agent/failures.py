"""What goes wrong, as an error that a caller can meet: whichever provider's client, or library, it comes from.

LangChain's classes of models raise its `ModelError`s for some providers, and for others what the provider's own client
raises: there, what is in the error decides.
"""

import logging
import re
import uuid
from collections.abc import Mapping
from typing import Any

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelInvalidRequestError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langgraph.errors import is_invalid_resume

from stateful_agent.errors import (
    AgentError,
    ContextTooLong,
    InvalidRequest,
    ModelFailed,
    ModelRateLimited,
    ModelRefused,
    ModelTimedOut,
)

logger = logging.getLogger(__name__)

BY_NAME: dict[type[AgentError], set[str]] = {
    ModelRateLimited: {
        "rate_limit_error",
        "rate_limit_exceeded",
        "REQUEST_LIMIT_EXCEEDED",
        "ServiceQuotaExceededException",
        "ThrottlingException",
    },
    ModelRefused: {
        "BAD_REQUEST",
        "context_length_exceeded",
        "failed_to_download_image",
        "image_content_policy_violation",
        "image_file_too_large",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "invalid_base64_image",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_url",
        "invalid_prompt",
        "invalid_request_error",
        "request_too_large",
        "unsupported_image_media_type",
        "ValidationException",
    },
    ModelTimedOut: {"timeout_error", "ModelTimeoutException"},
}
"""What providers call an error. Amid a stream, it has no status."""

BY_STATUS: dict[int, type[AgentError]] = {
    400: ModelRefused,
    408: ModelTimedOut,
    413: ModelRefused,
    422: ModelRefused,
    429: ModelRateLimited,
    504: ModelTimedOut,
}
"""What a provider's status means. Any other that is an error: the provider failed."""

TOO_LONG = re.compile(
    r"context.length.exceeded|(prompt|input) is too long|too many (input )?tokens|input tokens exceed|"
    r"(exceed\w*|longer than).{0,60}(context|token)|(context (window|length)|token count).{0,80}exceed",
    re.IGNORECASE | re.DOTALL,
)
"""How providers say that a conversation is too long."""

UNREACHABLE = {
    "APIConnectionError",
    "APIError",
    "BotoCoreError",
    "ConnectionError",
    "EventStreamError",
    "HTTPClientError",
    "TransportError",
}
"""The errors of providers' clients that have no status: no answer came, or it broke off."""


def typed(error: Exception, *, is_stored: bool = False) -> AgentError:
    """The error that a caller gets when a turn fails with `error`; `is_stored`: after something of it was stored.

    A model provider's own message is passed on. Any other failure is logged under an id, and the caller gets no more
    than that id.
    """
    failure = error if isinstance(error, AgentError) else _failure(error)
    failure.should_retry = failure.should_retry and not is_stored
    return failure


def is_refusal(error: BaseException) -> bool:
    """Whether a model, or its provider, refused a request for what is in it."""
    return isinstance(error, InvalidRequest) or issubclass(_kind(error) or AgentError, InvalidRequest)


def is_unreachable(error: BaseException) -> bool:
    """Whether a model gave no answer, and another one may."""
    return issubclass(_kind(error) or AgentError, ModelFailed | ModelRateLimited | ModelTimedOut)


def _failure(error: Exception) -> AgentError:
    if is_invalid_resume(error):
        return InvalidRequest(f"The answer is not what was asked for: {_faults(error)}.", param="custom_inputs.resume")
    kind = _kind(error)
    if kind and (_answered(error) or kind is not ModelFailed):
        failure = kind(_message(error, kind))
        failure.retry_after = _retry_after(error) if kind is ModelRateLimited else None
        return failure
    error_id = uuid.uuid4().hex[:12]
    logger.error("A request failed (error %s)", error_id, exc_info=error)
    if kind:
        return ModelFailed(
            "The model provider cannot be reached, or its answer broke off. The log has the cause, under error "
            f"{error_id}."
        )
    return AgentError(f"The agent failed. Its log has the cause, under error {error_id}.")


def _kind(error: BaseException) -> type[AgentError] | None:
    """Which failure of a model's provider it is; `None`: it is none."""
    kind = _kind_by_class(error) or _kind_by_status(error)
    return ContextTooLong if kind is ModelRefused and TOO_LONG.search(_words(error)) else kind


def _kind_by_class(error: BaseException) -> type[AgentError] | None:
    for kind, classes in (
        (ContextTooLong, ContextOverflowError),
        (ModelRateLimited, ModelRateLimitError),
        (ModelRefused, ModelInvalidRequestError),
        (ModelTimedOut, ModelTimeoutError),
    ):
        if isinstance(error, classes):
            return kind
    is_timeout = isinstance(error, TimeoutError) or any("Timeout" in kind.__name__ for kind in type(error).__mro__)
    return ModelTimedOut if is_timeout else None


def _kind_by_status(error: BaseException) -> type[AgentError] | None:
    status, code = _status(error), _code(error)
    if status is None and not UNREACHABLE & {kind.__name__ for kind in type(error).__mro__}:
        return None
    by_name = next((kind for kind, codes in BY_NAME.items() if code in codes), None)
    return by_name or BY_STATUS.get(status or 0, ModelFailed)


def _answered(error: BaseException) -> bool:
    """Whether the error holds words of the provider's own."""
    return _status(error) is not None or bool(_code(error)) or bool(getattr(error, "body", None))


def _response(error: BaseException) -> Any:
    return getattr(error, "response", None)


def _status(error: BaseException) -> int | None:
    """The status of the provider's answer. One that turned into an error amid a stream may say 200."""
    response = _response(error)
    if isinstance(response, Mapping):  # Amazon's
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _fields(error: BaseException) -> Mapping[str, Any]:
    """What the provider says of an error, in its own form."""
    response, body = _response(error), getattr(error, "body", None)
    said = response if isinstance(response, Mapping) else body
    said = said.get("Error", said.get("error", said)) if isinstance(said, Mapping) else {}
    return said if isinstance(said, Mapping) else {}


def _code(error: BaseException) -> str:
    """What the provider calls the error."""
    fields = _fields(error)
    if amazons := str(fields.get("Code") or ""):
        return amazons[0].upper() + amazons[1:]  # amid a stream, the first letter is small
    return str(next((fields[name] for name in ("code", "error_code", "type") if fields.get(name)), ""))


def _retry_after(error: BaseException) -> int | None:
    """After how many seconds the provider wants to be asked again."""
    response = _response(error)
    if isinstance(response, Mapping):
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    else:
        headers = getattr(response, "headers", None) or {}
    seconds = str(headers.get("retry-after"))
    return int(seconds) if re.fullmatch("[0-9]{1,6}", seconds) else None


def _faults(error: Any) -> str:
    """What pydantic finds wrong in a value, and where in it."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removeprefix(": ") for fault in faults)


SECRETS = re.compile(
    r"(?<=://)[^/@\s]+(?=@)|(?<=Bearer )\S+|\b(?:sk-|pk-|tvly-|dapi|AKIA|ASIA|AIza)[\w*-]{8,}"
    r"|(?<=key=)[^&\s]+|(?<=token=)[^&\s]+|(?<=secret=)[^&\s]+|(?<=password=)[^&\s]+",
    re.IGNORECASE,
)
"""What providers quote of the request that they refuse: credentials in a URL, in a header, on their own."""


def _words(error: BaseException) -> str:
    """The provider's own message, without the transport's wrapping."""
    fields = _fields(error)
    return str(fields.get("message") or fields.get("Message") or error)


def _message(error: BaseException, kind: type[AgentError]) -> str:
    words = SECRETS.sub("***", _words(error))[:1000]
    if kind is ContextTooLong:
        return (
            f"The conversation is too long for the model: {words} Compact it, go on from an earlier checkpoint, or "
            'send truncation: "auto".'
        )
    if kind is ModelTimedOut and not _answered(error):
        return f"The model provider did not answer in time: {words or type(error).__name__}"
    return f"The model provider answered: {words or type(error).__name__}"
