// The messages of a state, and the turns that they came with. Pure, but for `stateAt`, which reads a state.

// The items of a state, put together again: one message may be several items.
export function messagesOf(items) {
  const found = [];
  for (const item of items) {
    const id = item.message_id ?? item.id;
    if (found.at(-1)?.id !== id) found.push({ id, items: [] });
    found.at(-1).items.push(item);
  }
  return found;
}

export const isFrom = (message, role) => message.items[0].type === "message" && message.items[0].role === role;

export const textOf = (message) =>
  message.items
    .filter((item) => item.type === "message")
    .flatMap((item) => (typeof item.content === "string" ? [item.content]
      : item.content.map((part) => part.text ?? part.refusal ?? "")))
    .join("\n");

// By the id of each message, how many messages there were before it when it came, which says what turn it came with.
// That is its place in the list, until an edit took messages out: what was there then is looked up in the state before.
export async function origins(path, messages, stateAt) {
  const shrinks = path.findLastIndex((node, index) => index && node.message_count < path[index - 1].message_count);
  const places = new Map(messages.map((message, index) => [message.id, { nth: index, before: path.at(-1) }]));
  if (shrinks < 0) return places;
  const before = path.slice(0, shrinks);
  const earlier = await origins(before, messagesOf((await stateAt(before.at(-1).id)).messages), stateAt);
  for (const [index, message] of messages.entries())
    if (index < path[shrinks].message_count && earlier.has(message.id)) places.set(message.id, earlier.get(message.id));
  return places;
}

// The turns of a path, each with the messages that came with it; each of these has its `node`, the checkpoint that had it
// first.
export async function messagesByTurn(turns, path, messages, stateAt) {
  const places = await origins(path, messages, stateAt);
  const byGroup = new Map(turns.map((turn) => [turn.group, { ...turn, messages: [] }]));
  const fewest = new Map(); // by the last checkpoint, from each one on
  for (const message of messages) {
    const { nth, before } = places.get(message.id);
    if (!fewest.has(before)) fewest.set(before, fewestFrom(path, before));
    const came = fewest.get(before).findIndex((count) => count > nth);
    const node = came < 0 ? before : path[came];
    byGroup.get(node.group).messages.push({ ...message, node, nth });
  }
  return [...byGroup.values()];
}

function fewestFrom(path, last) {
  const counts = path.slice(0, path.indexOf(last) + 1).map((node) => node.message_count);
  for (let index = counts.length - 2; index >= 0; index--) counts[index] = Math.min(counts[index], counts[index + 1]);
  return counts;
}
