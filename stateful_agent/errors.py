"""Every error a caller can meet: its message, its HTTP status, its code.

Each is an `MlflowException`, so that MLflow's own scoring server answers with the same status. A class's
docstring is its message, unless whoever raises it knows more.
"""

from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    REQUEST_LIMIT_EXCEEDED,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)


class AgentError(MlflowException):
    """The agent failed; its log says why."""

    status = 500
    code = "internal_error"
    type = "server_error"
    mlflow_code = INTERNAL_ERROR
    retry_after: int | None = None
    """Seconds after which the request may succeed."""

    should_retry = True
    """Whether the same request may be sent again: not once something of its turn is stored."""

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        """`param` names the part of the request that is to blame."""
        super().__init__(message or type(self).__doc__ or "", error_code=type(self).mlflow_code)
        self.param = param

    def get_http_status_code(self) -> int:
        """The status, also for those that MLflow's own codes have no name for (413, 502)."""
        return self.status

    def as_dict(self) -> dict[str, Any]:
        """The body of `{"error": ...}`, as OpenAI clients read it."""
        return {"message": self.message, "type": self.type, "code": self.code, "param": self.param}


class InvalidRequest(AgentError):
    """The request is malformed."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    mlflow_code = INVALID_PARAMETER_VALUE


class NothingToResume(InvalidRequest):
    """There is no input, and nothing is pending in the thread: send a message, or a checkpoint_id to replay from."""

    code = "nothing_to_resume"


class InputTooLarge(InvalidRequest):
    """The input is over the size limit: send less, or raise MAX_INPUT_BYTES."""

    status = 413
    code = "input_too_large"


class ThreadTooLong(InvalidRequest):
    """The conversation would have more than MAX_THREAD_MESSAGES: compact it, or go on from an earlier checkpoint."""

    code = "thread_too_long"


class ThreadNotFound(AgentError):
    """There is no such thread: check thread_id, or leave it out to begin a new one."""

    status = 404
    code = "thread_not_found"
    type = "not_found_error"
    mlflow_code = RESOURCE_DOES_NOT_EXIST


class CheckpointNotFound(ThreadNotFound):
    """There is no such checkpoint in this thread: take an id from the thread's checkpoint history."""

    code = "checkpoint_not_found"


class ItemNotFound(ThreadNotFound):
    """There is no such item in this conversation: take an id from the list of its items."""

    code = "item_not_found"


class ForeignOrigin(InvalidRequest):
    """A web page of another site has sent this: name its origin in ALLOWED_ORIGINS if it may."""

    status = 403
    code = "foreign_origin"
    type = "permission_error"


class UnknownHost(InvalidRequest):
    """This server is not asked for by that name: send it as the header host, or list the name in ALLOWED_HOSTS."""

    status = 421
    code = "unknown_host"


class Conflict(AgentError):
    """Somebody else is at work on this thread."""

    status = 409
    code = "conflict"
    type = "conflict_error"
    mlflow_code = RESOURCE_CONFLICT


class ThreadBusy(Conflict):
    """Another turn runs on this thread: send the request again when that has ended."""

    code = "thread_busy"
    retry_after = 1  # seconds


class ThreadExists(Conflict):
    """There is a thread of this id already: leave the id out to get another one."""

    code = "thread_exists"


class ThreadDeleted(Conflict):
    """The thread was deleted while this turn ran: nothing more of it was kept."""

    code = "thread_deleted"


class TurnOvertaken(Conflict):
    """This turn was silent for so long that another one has the thread now: nothing more of it was kept."""

    code = "turn_overtaken"


class ClockBehind(AgentError):
    """The clock of this server is behind that of another one, which wrote to this thread: nothing was stored."""

    code = "clock_behind"


class AlreadyAnswered(Conflict):
    """This call has a turn already: its response can be had by its id."""

    code = "already_answered"

    def __init__(self, response_id: str) -> None:
        """`response_id` is the response of that turn."""
        super().__init__(f"This call has a turn already: GET /responses/{response_id} has its response.")
        self.response_id = response_id


class TurnGone(Conflict):
    """The turn of this call was refused, or its thread was deleted: send the request again."""

    code = "turn_gone"


class KeyReused(InvalidRequest):
    """This Idempotency-Key came with another request before: use a new key for each request."""

    status = 422
    code = "idempotency_key_reused"


class ResponseNotFound(AgentError):
    """There is no such response, or it is kept no more."""

    status = 404
    code = "response_not_found"
    type = "not_found_error"
    mlflow_code = RESOURCE_DOES_NOT_EXIST


class Cancelled(AgentError):
    """The response was cancelled. What was emitted until then stays in the thread as far as it was stored."""

    status = 499
    code = "cancelled"
    type = "cancelled_error"
    mlflow_code = CANCELLED


class TurnLost(AgentError):
    """The server that ran this turn died. Retrieve it: with a checkpoint_id, resume it there; without, ask again."""

    code = "turn_lost"


class TurnNotBegun(AgentError):
    """The server died while this turn waited for its thread. Nothing of it is stored: send the request again."""

    status = 503
    code = "turn_not_begun"
    mlflow_code = TEMPORARILY_UNAVAILABLE
    retry_after = 1  # seconds


class Unidentified(AgentError):
    """The request does not say whose it is, and only known users have threads here."""

    status = 401
    code = "unidentified"
    type = "authentication_error"
    mlflow_code = UNAUTHENTICATED


class TooManySteps(AgentError):
    """The turn was ended because it had taken too many steps: send a message, or raise MAX_STEPS."""

    code = "too_many_steps"


class ModelRateLimited(AgentError):
    """The model provider refuses more requests for now: try again later."""

    status = 429
    code = "model_rate_limited"
    type = "rate_limit_error"
    mlflow_code = REQUEST_LIMIT_EXCEEDED


class ModelFailed(AgentError):
    """The model provider failed."""

    status = 502
    code = "model_failed"


class ModelRefused(InvalidRequest):
    """The model provider refuses the request for what is in it."""

    code = "model_refused"
    should_retry = False


class ContextTooLong(ModelRefused):
    """The conversation is too long for the model."""

    code = "context_length_exceeded"


class ModelTimedOut(AgentError):
    """The model provider did not answer in time."""

    status = 504
    code = "model_timed_out"
    mlflow_code = DEADLINE_EXCEEDED


class StorageUnavailable(AgentError):
    """The database cannot be reached: try again in a few seconds."""

    status = 503
    code = "storage_unavailable"
    mlflow_code = TEMPORARILY_UNAVAILABLE
    retry_after = 5  # seconds


class EndNotStored(StorageUnavailable):
    """The turn has ended, but the database cannot be reached to note it: ask for the response in a few seconds."""


class ShuttingDown(AgentError):
    """The agent is shutting down: send the request again."""

    status = 503
    code = "shutting_down"
    mlflow_code = TEMPORARILY_UNAVAILABLE
    retry_after = 5  # seconds
    should_retry = False  # by itself: what the turn has done until now is stored


class NotStorable(AgentError):
    """The graph's state holds a value that cannot be stored."""

    code = "state_not_storable"

    def __init__(self, kind: str, where: str = "The graph's state") -> None:
        """`kind` is the name of the value's type, and `where` it is."""
        super().__init__(
            f"{where} holds a {kind}, which cannot be stored: keep it outside of the graph's state, or make it data "
            "(text, numbers, lists, dicts, a dataclass or a pydantic model)."
        )
        self.kind = kind


class Unreadable(AgentError):
    """What the thread stores cannot be read."""

    code = "unreadable"


class Misconfigured(AgentError):
    """The agent's settings do not fit together."""

    code = "misconfigured"


def error_of(fields: dict[str, Any]) -> AgentError:
    """The error of another request for the same turn, from its `as_dict`."""
    kinds = [AgentError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    named = (kind for kind in kinds if kind.code == fields["code"])
    error = next(named, AgentError)(fields["message"], param=fields["param"])
    error.should_retry = False  # that would join the same turn
    return error
