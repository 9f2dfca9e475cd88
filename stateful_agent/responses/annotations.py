"""What an answer rests on: providers' citations as annotations of its text, in the form of OpenAI's. Pure.

https://platform.openai.com/docs/api-reference/responses/object, `annotations` of `output_text`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

Annotation = dict[str, Any]
Citation = dict[str, Any]


def citations_in(block: dict[str, Any]) -> Sequence[Citation]:
    """The citations of a block of a message's content, in the form of whichever provider."""
    given = block.get("annotations") or block.get("citations") or ()
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def annotations_of(citations: Sequence[Citation], begin: int, end: int) -> Iterator[Annotation]:
    """The annotations of a text for the citations of that part of it, of those that name a page or a file.

    `begin` and `end` are where the part begins and ends in the text, in characters. A citation may have places of its
    own in the part; of others, the part as a whole rests on what they name.
    """
    for citation in citations:
        match citation:
            case {"type": "url_citation", "url_citation": {"url": str()} as nested}:  # as in chat completions
                yield _page(nested, begin, end)
            case {"type": "file_citation" | "file_path" as kind, "file_id": str(file_id)}:
                place = citation.get("index", citation.get("file_index"))  # LangChain calls it so
                index = begin + place if isinstance(place, int) else end
                yield {"type": kind, **_file(file_id, citation.get("filename")), "index": index}
            case {"url": str()}:
                yield _page(citation, begin, end)
            case {"source": str(url)} | {"location": {"web": {"url": str(url)}}} if "://" in url:
                yield _page({"title": citation.get("title"), "url": url}, begin, end)
            case {"document_index": int(number)}:  # Anthropic's
                name = citation.get("document_title")
                yield {"type": "file_citation", **_file(f"document-{number}", name), "index": end}
            case {"location": {**places}}:  # Bedrock's
                for place in places.values():
                    match place:
                        case {"document_index": number} | {"documentIndex": number}:
                            name = citation.get("title")
                            yield {"type": "file_citation", **_file(f"document-{number}", name), "index": end}


def _page(citation: Citation, begin: int, end: int) -> Annotation:
    has_place = isinstance(citation.get("start_index"), int) and isinstance(citation.get("end_index"), int)
    return {
        "type": "url_citation",
        "url": citation["url"],
        "title": citation.get("title") or "",
        "start_index": begin + citation["start_index"] if has_place else begin,
        "end_index": begin + citation["end_index"] if has_place else end,
    }


def _file(file_id: str, name: str | None) -> Annotation:
    """How a file is named. A document that came with the input has its number among them in the place of an id."""
    return {"file_id": file_id, "filename": name or ""}
