"""What the page works out by itself, from any history: the modules alone, in the browser."""

import random
from typing import Any

import pytest
from browsing import Person

LANES = """
async (entries) => {
  const { buildTree, lay } = await import("./page/tree.js");
  const tree = buildTree(entries);
  const drawn = (items) => lay(items).rows.map(({ index, lane, from }) => (
    { index, lane, from: from?.index ?? index }));
  return [drawn([...tree.nodes.values()]), drawn(tree.turns)];
}
"""


def any_history(chance: random.Random) -> list[dict[str, Any]]:
    """Turns of a few checkpoints each, edits and replays, some of which go on from where others did."""
    entries: list[dict[str, Any]] = []
    for n in range(chance.randrange(1, 60)):
        parent = chance.choice(entries[-3:] if chance.random() < 0.7 else entries) if entries else None
        source = chance.choice(["input", "loop", "loop", "loop", "update", "fork"]) if parent else "input"
        entry = {"checkpoint_id": f"{n:04}", "parent_checkpoint_id": parent and parent["checkpoint_id"]}
        entries.append(entry | {"source": source, "nodes": [], "last_message": "", "message_count": n})
    return entries


@pytest.mark.parametrize("seed", range(5))
def test_no_branch_is_drawn_over_another(person: Person, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        for rows in person.page.evaluate(LANES, any_history(chance)):
            assert [row["index"] for row in rows] == list(range(len(rows)))
            taken: set[tuple[int, int]] = set()
            for row in rows:
                of_row = {(row["lane"], index) for index in range(row["from"] + 1, row["index"])}
                of_row.add((row["lane"], row["index"]))
                assert not of_row & taken
                taken |= of_row
