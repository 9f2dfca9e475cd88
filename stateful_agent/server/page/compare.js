// Two branches side by side: where they part, and what each has beyond.

import { useEffect, useState } from "./vendor/hooks.js";
import { getState } from "./api.js";
import { ours } from "./checkpoint.js";
import { Item, resultsIn } from "./items.js";
import { compare } from "./tree.js";
import { Button, Dialog, Problem, html, shorten } from "./ui.js";

export function Compare({ session, onClose }) {
  const { tree, threadId, node } = session;
  const [ids, setIds] = useState(() => {
    const mine = tree.tips.includes(node) ? node : tree.tips[0];
    return [mine.id, tree.tips.find((tip) => tip !== mine).id];
  });
  const [found, setFound] = useState({});
  useEffect(() => {
    setFound({});
    Promise.all(ids.map((id) => getState(threadId,
      id))).then((states) => setFound({ states: states.map(ours) }), (error) => setFound({ error }));
  }, [...ids]);
  const nodes = ids.map((id) => tree.nodes.get(id));
  const shared = compare(...nodes);
  const { states, error } = found;
  const show = (id) => {
    onClose();
    session.show(tree.nodes.get(id));
  };
  const choose = (side) => (event) => setIds(ids.map((id, index) => (index === side ? event.target.value : id)));
  return html`
    <${Dialog} title="Compare branches" wide onClose=${onClose}>
      <p>${shared
        ? html`They part at checkpoint <code>${shared.id}</code>,
          after “${shorten(shared.last_message || "the beginning", 60)}”.` : "They have nothing in common."}</p>
      ${error && html`<${Problem} error=${error} />`}
      <div class="sides">
        ${[0, 1].map((side) => html`
          <section aria-label=${side ? "Right" : "Left"}>
            <div class="row"><select aria-label="Branch" value=${ids[side]} onChange=${choose(side)}>
              ${tree.tips.map((tip) => html`<option value=${tip.id} selected=${tip.id === ids[side]}>
                ${shorten(tip.last_message || tip.group.label, 60)}</option>`)}</select>
              <${Button} onClick=${() => show(ids[side])}>Show<//></div>
            ${states ? html`<${Beyond} state=${states[side]} other=${states[1 - side]} />` : html`<p
              role="status">Loading…</p>`}
          </section>`)}
      </div>
    <//>`;
}

function Beyond({ state, other }) {
  const theirs = new Map(other.messages.map((item) => [item.id, JSON.stringify(item)]));
  const own = state.messages.filter((item) => theirs.get(item.id) !== JSON.stringify(item));
  const results = resultsIn(state.messages);
  const differs = (key) => JSON.stringify(state.values[key]) !== JSON.stringify(other.values[key]);
  const keys = Object.keys(state.values).filter(differs);
  return html`
    <p class="quiet">${state.messages.length - own.length} items in common, ${own.length} of its own</p>
    ${own.filter((item) => item.type !== "function_call_output").map((item) => html`<div class="known"><b
      class="quiet">${item.role ?? item.type}</b><${Item} item=${item} results=${results} /></div>`)}
    ${keys.map((key) => html`<h3>${key}</h3><pre>${JSON.stringify(state.values[key], null, 2)}</pre>`)}`;
}
