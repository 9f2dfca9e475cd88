// What a thread's history says about its tree: which checkpoint follows which, and what makes up a turn. Pure.

// `entries` in any order. Each node is its entry, with `parent`, `children` (oldest first) and the `turn` it is in.
export function buildTree(entries) {
  const nodes = new Map();
  const inOrder = [...entries].sort((a, b) => (a.checkpoint_id < b.checkpoint_id ? -1 : 1));
  for (const entry of inOrder) nodes.set(entry.checkpoint_id, {
    ...entry, id: entry.checkpoint_id, children: [], isAfterEnd: true });
  const turns = [];
  for (const node of nodes.values()) {
    node.parent = nodes.get(node.parent_checkpoint_id) ?? null;
    node.parent?.children.push(node);
    const begins = !node.parent || ["input", "update"].includes(node.source) || node.parent.children[0] !== node;
    if (begins) {
      const parent = node.parent?.group ?? null;
      node.group = { id: node.id, nodes: [], parent, isAfterEnd: parent?.last === node.parent, kind: kindOf(node) };
      turns.push(node.group);
    } else node.group = node.parent.group;
    node.group.nodes.push(node);
    node.group.last = node;
  }
  for (const turn of turns) turn.label = labelOf(turn);
  const head = inOrder.length ? nodes.get(inOrder.at(-1).checkpoint_id) : null;
  return { nodes, turns, head, tips: [...nodes.values()].filter((node) => !node.children.length).reverse() };
}

function kindOf(node) {
  if (node.source === "update") return "edit";
  return node.source === "input" || !node.parent ? "turn" : "replay";
}

function labelOf({ kind, nodes }) {
  const asked = nodes.find((node) => node.nodes.includes("__start__")) ?? (nodes[0].parent ? null : nodes[0]);
  if (kind === "turn") return asked?.last_message || nodes.at(-1).last_message || "…";
  return kind === "edit" ? "edited" : `asked again: ${nodes.at(-1).last_message || "…"}`;
}

export function pathTo(node) {
  const path = [];
  for (let at = node; at; at = at.parent) path.push(at);
  return path.reverse();
}

// The newest checkpoint that comes after this one, or itself.
export function newestTip(node) {
  let newest = node;
  const open = [node];
  while (open.length) {
    const at = open.pop();
    if (at.id > newest.id) newest = at;
    open.push(...at.children);
  }
  return newest;
}

// Where one can choose between versions on a path: at what message, which there are, and which is on the path.
export function choices(path) {
  const found = [];
  for (const [index, node] of path.entries()) {
    if (node.children.length > 1 && index + 1 < path.length)
      found.push({ at: node.message_count, versions: node.children, chosen: node.children.indexOf(path[index + 1]) });
  }
  return found;
}

// The turns of a path, each with its checkpoints on it.
export function turnsOn(path) {
  const found = [];
  for (const node of path) {
    if (found.at(-1)?.group !== node.group) found.push({ group: node.group, nodes: [] });
    found.at(-1).nodes.push(node);
  }
  return found;
}

// Lines of a graph like git's, oldest first: rows, each in a lane, with the row that it comes from. What follows an item
// first goes on in its lane; a branch keeps its own to its end, and then another may have it.
export function lay(items) {
  const rows = new Map(items.map((item, index) => [item, { item, index, lane: null, from: null }]));
  const last = new Map(); // by the first item of a lane, the row where the lane ends
  const first = new Map();
  const hasHeir = new Set();
  for (const row of rows.values()) {
    row.from = rows.get(row.item.parent) ?? null;
    const goesOn = row.from && !hasHeir.has(row.from) && row.item.isAfterEnd;
    if (goesOn) hasHeir.add(row.from);
    first.set(row, goesOn ? first.get(row.from) : row);
    last.set(first.get(row), row.index);
  }
  const busyUntil = []; // of each lane
  for (const row of rows.values()) {
    const beginning = first.get(row);
    if (beginning !== row) row.lane = beginning.lane;
    else {
      const since = row.from ? row.from.index : row.index;
      const free = busyUntil.findIndex((until) => until < since);
      row.lane = free < 0 ? busyUntil.length : free;
      busyUntil[row.lane] = last.get(row);
    }
  }
  return { rows: [...rows.values()], lanes: busyUntil.length };
}

// What two branches share, and what each has beyond.
export function compare(one, other) {
  const ours = pathTo(one);
  const theirs = new Set(pathTo(other));
  return ours.filter((node) => theirs.has(node)).at(-1) ?? null;
}
