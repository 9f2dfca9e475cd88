"""What was measured, as a table for people and as JSON for programs."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ["mlflow", "langgraph", "langgraph-checkpoint-postgres", "langchain-core", "psycopg", "fastapi", "uvicorn"]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    how: str
    """The conditions: how often, beside what, with traces or without."""

    goal: str = ""
    met: bool | None = None
    """Whether the goal is reached; `None` where none is set."""

    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """The quartiles of some values."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """The quartiles of at least two values."""
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Of pairs that were measured one after the other, the quartiles of their ratios."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def ms(seconds: Sequence[float]) -> float:
    """The median, in milliseconds."""
    return statistics.median(seconds) * 1000


def machine() -> dict[str, str]:
    """What it was measured on, and when."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores {processor or platform.machine()}, {memory:.0f} GiB, {platform.system()}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
    }


def as_markdown(rows: Sequence[Row], about: dict[str, str], notes: Sequence[str]) -> str:
    """The table, with what it was measured on above it."""
    lines = ["# Measured by `make bench`", ""]
    lines += [f"{value}  " for value in (about["date"], about["machine"], f"Python {about['python']}")]
    lines += [about["versions"], ""]
    lines += [f"- {note}" for note in notes]
    lines += ["", "| what | measured | goal | met | how |", "| --- | --- | --- | --- | --- |"]
    met = {True: "yes", False: "**no**", None: ""}
    lines += [f"| {row.what} | {row.measured} | {row.goal} | {met[row.met]} | {row.how} |" for row in rows]
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Row], about: dict[str, str], notes: Sequence[str], folder: Path) -> str:
    """Write `results.md` and `results.json` into a folder. Returns the former."""
    text = as_markdown(rows, about, notes)
    everything: dict[str, Any] = about | {"notes": list(notes), "rows": [asdict(row) for row in rows]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(text)
    (folder / "results.json").write_text(json.dumps(everything, indent=2) + "\n")
    return text
