"""What a model reads of what a tool returns: text, of a bounded length. Pure."""

from typing import Any

from langchain_core.messages import ToolMessage


def readable(result: ToolMessage, max_chars: int | None) -> ToolMessage:
    """The result with text of `max_chars` characters at most as its content.

    Some providers refuse anything else in a result, for as long as it is in the thread. Images and files stay in the
    artifact, as `content`, beside what is there.
    """
    text, others = _text_and_others(result.content)
    if others:
        kinds = ", ".join(str(part.get("type", "content")) for part in others)
        text = "\n".join(filter(None, [text, f"[Kept as an artifact: {kinds}.]"]))
    if max_chars is not None and len(text) > max_chars:
        text = f"{text[:max_chars]}\n[Cut off here, after {max_chars:,} of {len(text):,} characters.]"
    if text == result.content:
        return result
    return result.model_copy(update={"content": text, "artifact": _with(others, result.artifact)})


def reason(error: BaseException) -> str:
    """Why a tool has failed: libraries wrap their errors in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The same in one line, to go on with in a sentence."""
    return reason(error).partition("\n")[0].rstrip(".")


def _text_and_others(content: str | list[str | dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    if isinstance(content, str):
        return content, []
    texts, others = [], []
    for part in content:
        match part:
            case str(text) | {"type": "text", "text": str(text)}:
                texts.append(text)
            case _:
                others.append(part)
    return "\n".join(texts), others


def _with(others: list[dict[str, Any]], artifact: Any) -> Any:
    if not others:
        return artifact
    beside = artifact if isinstance(artifact, dict) else {} if artifact is None else {"artifact": artifact}
    return {"content": others, **beside}
