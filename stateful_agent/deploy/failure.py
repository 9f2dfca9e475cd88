"""The error of logging, checking and deploying: one line for the person at the command line."""

from pydantic import ValidationError


class Failure(Exception):
    """What went wrong and what to do, in one line."""


def one_line(error: BaseException) -> str:
    """An error as one line, with its type where it is one that is not meant for people."""
    if isinstance(error, ValidationError):  # of the settings
        return "; ".join(f"{'.'.join(map(str, found['loc'])).upper()}: {found['msg']}" for found in error.errors())
    message = " ".join(str(error).split())[:1000]
    if type(error).__module__.partition(".")[0] in {"stateful_agent", "mlflow"}:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
