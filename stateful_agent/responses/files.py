"""Files in a user's message: OpenAI's `input_file` as LangChain's standard block of content, and back. Pure."""

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


def input_file(block: dict[str, Any]) -> dict[str, Any]:
    """The reverse, for a block with `base64` or a `url`."""
    if "base64" not in block:
        return {"type": "input_file", "file_url": block["url"]}
    url = f"data:{block['mime_type']};base64,{block['base64']}"
    return {"type": "input_file", "file_data": url, "filename": block["extras"]["filename"]}
