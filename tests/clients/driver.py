"""What the Python drivers share: a case runs on a thread of its own, and a line of JSON says what its client saw."""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

NAME, URL, STRICT_URL = sys.argv[1:]

SF, OSLO, WHERE = "I'm headed to SF!", "I'm headed to Oslo!", "Where am I going?"
WEATHER, WARMER = "What is the weather in SF and LA?", "Which one is warmer?"
SF_WEATHER = "What is the weather in SF?"
SLOWLY, BREAK_OFF, CAREFUL = "slowly", "break off", "call careful"


OUTPUT = "SF: 60°F"
PLACE = {
    "type": "object",
    "properties": {"location": {"type": "string"}},
    "required": ["location"],
    "additionalProperties": False,
}
FUNCTION: dict[str, Any] = {"type": "function", "name": "get_weather", "parameters": PLACE, "strict": True}
"""A function of the client's own."""

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FORM: dict[str, Any] = {"format": {"type": "json_schema", "name": "Trip", "schema": SCHEMA, "strict": True}}
"""The form of an answer."""


@dataclass
class Saw:
    """What a client showed its user."""

    case: str
    by: str
    thread_id: str
    text: str = ""
    deltas: int = 0
    calls: list[str] = field(default_factory=list)
    statuses: list[str | None] = field(default_factory=list)
    error: list[str] | None = None

    def receive(self, delta: str) -> None:
        self.text += delta
        self.deltas += bool(delta)

    def custom_inputs(self, **more: Any) -> dict[str, Any]:
        """Extra fields of a request that name the case's thread."""
        return {"custom_inputs": {"thread_id": self.thread_id} | more}


def case(name: str, by: str = "") -> Callable[[Callable[[Saw], None]], None]:
    """Run the decorated function now, and print what it saw; `by` says which of the client's ways it goes."""

    def run(function: Callable[[Saw], None]) -> None:
        saw = Saw(name, by, re.sub(r"\W+", "-", f"{NAME} {name} {by}"))
        try:
            function(saw)
        except Exception as error:
            saw.error = [type(error).__name__, str(error)]
        print(json.dumps(asdict(saw)), flush=True)

    return run


def use_as_databricks(url: str) -> None:
    """Let Databricks' clients find the server as they find a workspace."""
    os.environ |= {"DATABRICKS_HOST": url, "DATABRICKS_TOKEN": "none"}
