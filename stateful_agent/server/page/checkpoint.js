// The insides of a checkpoint: everything that the agent knew, what differs from the one before, and the edit of a key.

import { useEffect, useState } from "./vendor/hooks.js";
import { getState } from "./api.js";
import { Item, resultsIn } from "./items.js";
import { Button, CopyButton, Dialog, Problem, Time, html } from "./ui.js";

const VIEWS = ["Readable", "Changes", "JSON"];

export function Checkpoint({ session, checkpointId, onClose }) {
  const [found, setFound] = useState({});
  const [view, setView] = useState(VIEWS[0]);
  useEffect(() => {
    (async () => {
      const state = await getState(session.threadId, checkpointId, { subgraphs: true });
      const parent = state.parent_checkpoint_id ? await getState(session.threadId,
        state.parent_checkpoint_id).catch(() => null) : null;
      setFound({ state, parent });
    })().catch((error) => setFound({ error }));
  }, [checkpointId]);
  const { state, parent, error } = found;
  return html`
    <${Dialog} title="Checkpoint" wide onClose=${onClose}>
      ${error && html`<${Problem} error=${error} />`}
      ${!state && !error && html`<p role="status">Loading…</p>`}
      ${state && html`
        <div class="row">
          <div class="row tabs" role="tablist" aria-label="View">${VIEWS.map((name) => html`
            <button type="button" role="tab" aria-selected=${name === view ? "true" : "false"}
              onClick=${() => setView(name)}>${name}</button>`)}</div>
          <${CopyButton} text=${state.checkpoint_id} label="Copy id" />
        </div>
        <div role="tabpanel" aria-label=${view} tabindex="0">
          ${view === "Readable" && html`<${Readable} ...${{ session, state, onClose }} />`}
          ${view === "Changes" && html`<${Changes} state=${state} parent=${parent} />`}
          ${view === "JSON" && html`<pre>${JSON.stringify(ours(state), null, 2)}</pre>`}
        </div>`}
    <//>`;
}

// A state as this project has it: LangGraph's names for the same are left out.
export function ours(state) {
  const { values, next, checkpoint, parent_checkpoint, created_at, metadata, tasks, ...rest } = state;
  const { messages, ...others } = values;
  return { ...rest, values: others };
}

function Readable({ session, state, onClose }) {
  const { values, ...facts } = ours(state);
  const results = resultsIn(state.messages);
  return html`
    <dl class="facts">
      <dt>Id</dt><dd><code>${state.checkpoint_id}</code></dd>
      <dt>Parent</dt><dd><code>${state.parent_checkpoint_id ?? "none: it is the first"}</code></dd>
      <dt>Time</dt><dd><${Time} at=${state.timestamp} /></dd>
      <dt>Turn, step</dt><dd>${facts.turn}, ${facts.step} (${facts.source})</dd>
      <dt>Steps that ran</dt><dd>${facts.nodes.join(", ") || "none"}</dd>
      <dt>Next</dt><dd>${state.next_nodes?.join(", ") || "none: the turn is complete"}</dd>
      ${state.usage && html`<dt>Tokens</dt><dd>${state.usage.input_tokens} in, ${state.usage.output_tokens} out
        <span class="quiet"> since the user's last message</span></dd>`}
      ${state.response_id && html`<dt>Response</dt><dd><code>${state.response_id}</code></dd>`}
      ${state.trace_id && html`<dt>Trace</dt><dd>${state.trace_url
        ? html`<a href=${state.trace_url} target="_blank" rel="noopener noreferrer">${state.trace_id}</a>`
        : html`<code>${state.trace_id}</code>`}</dd>`}
      ${facts.interrupts.map((interrupt) => html`<dt>Waits</dt><dd>
        <pre>${JSON.stringify(interrupt.value, null, 2)}</pre></dd>`)}
    </dl>
    <h3>State</h3>
    ${Object.entries(values).map(([name, value]) => html`<${Key}
      key=${name} ...${{ session, state, name, value, onClose }} />`)}
    ${!Object.keys(values).length && html`<p class="quiet">Messages only.</p>`}
    ${state.pending_messages.length > 0
      && html`<h3>Pending</h3>${state.pending_messages.map((item) => html`<${Item} item=${item}
      results=${results} />`)}`}
    ${state.subgraphs.length > 0 && html`<h3>Subgraphs at work</h3>`}
    ${state.subgraphs.map((subgraph) => html`<${Subgraph} subgraph=${subgraph} />`)}
    <h3>${state.message_count} messages</h3>
    ${state.messages.length > 50 && html`<p class="quiet">The last 50; all are in the view as JSON.</p>`}
    <${Known} items=${state.messages.slice(-50)} results=${results} />`;
}

const Known = ({ items, results }) =>
  items.filter((item) => item.type !== "function_call_output").map((item) => html`
    <div class="known"><b class="quiet">${item.role ?? item.type}</b>
      <${Item} item=${item} results=${results} /></div>`);

// What a subgraph knows that has begun and not ended, folded.
const Subgraph = ({ subgraph: { node, next_nodes, values, messages, subgraphs } }) => html`
  <details class="subgraph">
    <summary><b>${node}</b> <span class="quiet">next: ${next_nodes.join(", ") || "none"}</span></summary>
    ${Object.keys(values).length > 0 && html`<pre>${JSON.stringify(values, null, 2)}</pre>`}
    <${Known} items=${messages} results=${resultsIn(messages)} />
    ${subgraphs.map((inner) => html`<${Subgraph} subgraph=${inner} />`)}
  </details>`;

function Key({ session, state, name, value, onClose }) {
  const before = JSON.stringify(value, null, 2);
  const [text, setText] = useState(null);
  let why = session.busyWith;
  let changed;
  try {
    changed = text === null ? value : JSON.parse(text);
  } catch {
    why = "It must be JSON";
  }
  const save = () => {
    onClose();
    session.edit(state.checkpoint_id, { values: { [name]: changed } });
  };
  return html`
    <section class="key"><h4>${name}</h4>
      ${text === null
        ? html`<pre>${before}</pre><${Button} class="plain" why=${why}
          onClick=${() => setText(before)}>Edit ${name}<//>`
        : html`<textarea aria-label=${`Value of ${name}`} spellcheck=${false} rows=${Math.min(16,
          text.split("\n").length + 1)} value=${text} onInput=${(event) => setText(event.target.value)} />
          <div class="row"><${Button} class="primary" why=${why} onClick=${save}>Save as a new checkpoint<//><${Button}
            onClick=${() => setText(null)}>Cancel<//></div>`}
    </section>`;
}

function Changes({ state, parent }) {
  if (!parent) return html`<p class="quiet">${state.parent_checkpoint_id
    ? "The checkpoint before is not kept any more." : "It is the first checkpoint: all of it is new."}</p>`;
  const [now, before] = [ours(state), ours(parent)];
  const ids = (messages) => new Map(messages.map((item) => [item.id, JSON.stringify(item)]));
  const [mine, theirs] = [ids(now.messages), ids(before.messages)];
  const added = now.messages.filter((item) => mine.get(item.id) !== theirs.get(item.id));
  const removed = before.messages.filter((item) => mine.get(item.id) !== theirs.get(item.id));
  const results = resultsIn(now.messages);
  const keys = [...new Set([...Object.keys(now.values), ...Object.keys(before.values)])];
  const differing = keys.filter((key) => JSON.stringify(now.values[key]) !== JSON.stringify(before.values[key]));
  return html`
    <p class="quiet">Since the checkpoint before, after the steps: ${now.nodes.join(", ") || now.source}.</p>
    ${removed.map((item) => html`<div class="removed"><span class="visually-hidden">Removed:</span>
      <${Item} item=${item} results=${results} /></div>`)}
    ${added.map((item) => html`<div class="added"><span class="visually-hidden">Added:</span><${Item} item=${item}
      results=${results} /></div>`)}
    ${differing.map((key) => html`<h3>${key}</h3><pre
      class="removed">${JSON.stringify(before.values[key], null, 2)}</pre><pre
      class="added">${JSON.stringify(now.values[key], null, 2)}</pre>`)}
    <p class="quiet">Next: ${before.next_nodes?.join(", ") || "none"} → ${now.next_nodes?.join(", ") || "none"}</p>`;
}
