"""Files in a user's message: OpenAI's `input_file` as LangChain's standard block of content. Pure."""

import mimetypes
from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import unquote_to_bytes

from stateful_agent.errors import InvalidRequest


def file_block(file_data: str, filename: str | None, param: str) -> dict[str, Any]:
    """The block of a file: `file_data` is a data URL, or base64 of which the name says what it is.

    Raises:
        InvalidRequest: it is neither, or empty; `param` is where it stands in the request.
    """
    name = filename or "file"
    if file_data.startswith("data:"):
        header, _, encoded = file_data.removeprefix("data:").partition(",")
        mime_type, *parameters = header.split(";")
        if "base64" not in parameters:
            encoded = b64encode(unquote_to_bytes(encoded)).decode()
    else:
        mime_type, encoded = mimetypes.guess_type(name)[0] or "application/pdf", file_data
    try:
        content = b64decode(encoded, validate=True)
    except ValueError as error:
        raise InvalidRequest("file_data must be a data URL, or base64.", param=param) from error
    if not content:
        raise InvalidRequest("The file is empty.", param=param)
    extras = {"filename": name}
    return {"type": "file", "base64": encoded, "mime_type": mime_type or "text/plain", "extras": extras}


def filename_of(block: dict[str, Any]) -> str:
    """What a file is called. A block that a graph has made may not say it."""
    extras = block.get("extras")
    return str(extras.get("filename") or "file") if isinstance(extras, dict) else "file"
