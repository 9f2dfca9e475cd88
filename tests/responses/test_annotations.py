"""Citations in the forms of providers, as annotations in OpenAI's."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk

from stateful_agent.responses.annotations import annotations_of
from stateful_agent.responses.events import ResponseEvents
from stateful_agent.responses.items import items_of
from stateful_agent.responses.response import empty_response

PAGE = {"type": "url_citation", "url": "https://a.example", "title": "A"}
FILE = {"type": "file_citation", "filename": "notes.pdf"}


@pytest.mark.parametrize(
    ("citation", "annotation"),
    [
        (PAGE | {"start_index": 1, "end_index": 2}, PAGE | {"start_index": 11, "end_index": 12}),
        ({"url_citation": PAGE, "type": "url_citation"}, PAGE | {"start_index": 10, "end_index": 20}),
        ({"type": "citation", "url": PAGE["url"], "title": "A"}, PAGE | {"start_index": 10, "end_index": 20}),
        ({"type": "search_result_location", "source": PAGE["url"], "title": "A", "search_result_index": 0},
         PAGE | {"start_index": 10, "end_index": 20}),
        ({"url": PAGE["url"], "title": None}, PAGE | {"title": "", "start_index": 10, "end_index": 20}),
        (FILE | {"file_id": "f", "index": 3}, FILE | {"file_id": "f", "index": 13}),
        (FILE | {"file_id": "f", "index": "?"}, FILE | {"file_id": "f", "index": 20}),
        (FILE | {"file_id": "f", "file_index": 3}, FILE | {"file_id": "f", "index": 13}),
        ({"type": "page_location", "document_index": 1, "document_title": "notes.pdf"},
         FILE | {"file_id": "document-1", "index": 20}),
        ({"title": "notes.pdf", "location": {"documentPage": {"documentIndex": 1, "start": 1, "end": 2}}},
         FILE | {"file_id": "document-1", "index": 20}),
    ],
    ids=str,
)  # fmt: skip
def test_an_annotation(citation: Any, annotation: Any) -> None:
    assert list(annotations_of([citation], 10, 20)) == [annotation]


@pytest.mark.parametrize("citation", [{}, {"type": "unheard_of"}, {"source": "not a page"}, {"location": {"x": 1}}])
def test_what_names_no_page_and_no_file_is_none(citation: Any) -> None:
    assert list(annotations_of([citation], 10, 20)) == []


BLOCKS: Any = [
    {"type": "text", "text": "It is "},
    {"type": "text", "text": "so", "citations": [{"url": "https://a.example"}]},
    {"type": "thinking", "thinking": "Hm."},
    {"type": "text", "text": "And "},
    {
        "type": "text",
        "text": "so",
        "citations": [{"url": "https://b.example"}, {"url": "https://c.example"}],
        "index": 4,
    },
]


def test_a_stream_has_the_same_as_the_message() -> None:
    """Also where a block comes in pieces, and its citations before its end."""
    events = ResponseEvents(empty_response("r", 0))
    emitted = []
    for n, block in enumerate(BLOCKS):
        text = block.get("text", "")
        pieces = (
            [block]
            if not text
            else [block | {"text": text[:1], "index": n}, {"type": "text", "text": text[1:], "index": n}]
        )
        for piece in pieces:
            emitted += events.feed(AIMessageChunk(content=[piece], id="m"), "model")
    emitted += events.complete({}, 0)
    found = [item["content"][0] for item in emitted[-1]["response"]["output"] if item["type"] == "message"]
    assert found == [item["content"][0] for item in items_of(AIMessage(BLOCKS, id="m")) if item["type"] == "message"]
    places = [[(each["start_index"], each["end_index"]) for each in part["annotations"]] for part in found]
    assert places == [[(6, 8)], [(4, 6), (4, 6)]]
    added = [event for event in emitted if event["type"].endswith("annotation.added")]
    assert [(event["output_index"], event["annotation_index"]) for event in added] == [(0, 0), (2, 0), (2, 1)]
    done = [event["part"] for event in emitted if event["type"] == "response.content_part.done"]
    assert done == found
