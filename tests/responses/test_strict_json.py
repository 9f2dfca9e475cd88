import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateful_agent.responses.strict_json import DEEPEST, JsonMeter

TEXT = st.text(alphabet='a,[]{}"\\\n😀', max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
)


def metered(body: bytes, size: int = 1) -> JsonMeter:
    """A meter that was fed the body in chunks of that size."""
    meter = JsonMeter()
    for start in range(0, len(body), size):
        meter.feed(body[start : start + size])
    return meter


def count(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inner))


class TestJsonMeter:
    @given(JSON, st.booleans(), st.integers(1, 20))
    def test_counts_the_values_wherever_the_body_is_cut(self, value: Any, escaped: bool, size: int) -> None:
        counted = metered(json.dumps(value, ensure_ascii=escaped).encode(), size).values
        assert count(value) <= counted <= 2 * count(value)

    @pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
    def test_knows_what_is_too_deep(self, opening: str, closing: str) -> None:
        def nested(levels: int) -> bytes:
            return f"{opening * levels}1{closing * levels}".encode()

        assert not metered(nested(DEEPEST)).is_too_deep
        assert metered(nested(DEEPEST + 1)).is_too_deep

    def test_what_lies_side_by_side_is_not_deep(self) -> None:
        assert not metered(json.dumps([[]] * 1000).encode()).is_too_deep

    def test_brackets_in_text_count_nothing(self) -> None:
        meter = metered(json.dumps(r"\"[[{," * 1000).encode())
        assert (meter.values, meter.is_too_deep) == (1, False)
