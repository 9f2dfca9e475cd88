"""A thread's checkpoints as a tree that shows itself: a picture in a notebook, text where there are none. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from xml.sax.saxutils import escape

ROW, LANE, LEFT = 22, 16, 14
"""Pixels."""

LABEL_CHARS = 60


class Printer(Protocol):
    """What IPython hands to `_repr_pretty_`."""

    def text(self, text: str) -> None:
        """Write."""


class Tree(list[dict[str, Any]]):
    """Entries of a thread's history: a list as any other, which a notebook draws and `print` writes as a tree.

    Oldest first, a branch in a lane of its own, as git draws its log.
    """

    def __str__(self) -> str:
        rows = _lay(self)
        return "\n".join(f"{_cells(row, rows)}  {_id(row.entry)}  {_label(row.entry)}".rstrip() for row in rows)

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_svg_(self) -> str:
        rows = _lay(self)
        lanes = max((row.lane for row in rows), default=-1) + 1
        shapes = [_line(row) for row in rows if row.parent] + [_node(row, lanes) for row in rows]
        width, height = LEFT + lanes * LANE + 640, max(len(rows), 1) * ROW
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace" '
            f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>{"".join(shapes)}</svg>'
        )


@dataclass(eq=False)
class _Row:
    entry: dict[str, Any]
    index: int
    parent: "_Row | None"
    first: "_Row" = field(init=False)
    """Of its lane."""

    lane: int = 0

    @property
    def x(self) -> int:
        return LEFT + self.lane * LANE

    @property
    def y(self) -> int:
        return self.index * ROW + ROW // 2


def _lay(entries: Sequence[dict[str, Any]]) -> list[_Row]:
    """Rows, oldest first. The first child goes on in its parent's lane; a branch keeps its own to its end."""
    rows: dict[str, _Row] = {}
    has_heir: set[_Row] = set()
    for index, entry in enumerate(sorted(entries, key=lambda entry: entry["checkpoint_id"])):
        parent = rows.get(entry["parent_checkpoint_id"])
        row = _Row(entry, index, parent)
        row.first = parent.first if parent and parent not in has_heir else row
        if parent and row.first is not row:
            has_heir.add(parent)
        rows[entry["checkpoint_id"]] = row
    ends = {row.first: row.index for row in rows.values()}
    taken_until: list[int] = []
    for row in rows.values():
        if row.first is not row:
            row.lane = row.first.lane
            continue
        since = row.parent.index if row.parent else row.index
        row.lane = next((lane for lane, until in enumerate(taken_until) if until < since), len(taken_until))
        taken_until[row.lane : row.lane + 1] = [ends[row]]
    return list(rows.values())


def _cells(row: _Row, rows: Sequence[_Row]) -> str:
    """The lines and the node of a row, in characters."""
    cells = [" "] * (2 * max(each.lane for each in rows) + 1)
    for each in rows:
        if each.parent and each.parent.index < row.index < each.index:
            cells[2 * each.lane] = "│"
    for each in rows:
        if each.parent is row and each.lane != row.lane:
            low, high = sorted((row.lane, each.lane))
            for at in range(2 * low + 1, 2 * high):
                cells[at] = {" ": "─", "│": "┼", "╮": "┬"}.get(cells[at], cells[at])
            cells[2 * each.lane] = "╮" if each.lane > row.lane else "╭"
    cells[2 * row.lane] = "●" if row is rows[-1] else "○"
    return "".join(cells)


def _id(entry: dict[str, Any]) -> str:
    return str(entry["checkpoint_id"])


def _label(entry: dict[str, Any]) -> str:
    steps = ", ".join(entry["nodes"] or ()) or entry["source"]
    then = ", ".join(entry["next_nodes"] or ())
    is_pending = entry["source"] == "input"  # what is asked there is in no message yet
    said = "" if is_pending else " ".join((entry["last_message"] or "").split())
    said = said if len(said) <= LABEL_CHARS else f"{said[: LABEL_CHARS - 1]}…"
    return f"{steps}{f' → {then}' if then else ''}  {said}".rstrip()


def _line(row: _Row) -> str:
    parent = row.parent
    assert parent
    bend = "" if parent.x == row.x else f"C{parent.x} {parent.y + ROW} {row.x} {parent.y} {row.x} {parent.y + ROW}"
    return f'<path d="M{parent.x} {parent.y}{bend}V{row.y}" fill="none" stroke="#8891a5" stroke-width="2"/>'


def _node(row: _Row, lanes: int) -> str:
    fill = "#3550d0" if not row.entry["next_nodes"] else "#fff"
    text = escape(f"{_id(row.entry)[9:18]}  {_label(row.entry)}")
    return (
        f'<circle cx="{row.x}" cy="{row.y}" r="5" fill="{fill}" stroke="#3550d0" stroke-width="2">'
        f"<title>{escape(_id(row.entry))}</title></circle>"
        f'<text x="{LEFT + lanes * LANE}" y="{row.y + 4}" fill="#1b1e26" xml:space="preserve">{text}</text>'
    )
