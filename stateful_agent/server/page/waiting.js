// What the agent waits for, with its buttons or its field.

import { useState } from "./vendor/hooks.js";
import { Button, html } from "./ui.js";

export function Waiting({ session, interrupts }) {
  const answer = (interrupt) => (value) =>
    session.send([], { resume: interrupts.length > 1 ? { [interrupt.id]: value } : value });
  return html`<section class="waiting" aria-label="The agent waits">
    ${interrupts.map((interrupt) => html`<${Interrupt} key=${interrupt.id} interrupt=${interrupt}
      answer=${answer(interrupt)} why=${session.busyWith} />`)}
  </section>`;
}

function Interrupt({ interrupt, answer, why }) {
  const { value } = interrupt;
  if (value?.type === "tool_approval") return html`<${Approval} name=${value.name} args=${value.args} why=${why}
    answer=${answer} />`;
  if (Array.isArray(value?.action_requests)) return html`<${Approvals} requests=${value.action_requests} why=${why}
    answer=${(decisions) => answer({ decisions })} />`;
  if (value === null || value === undefined)
    return html`<p>The agent has stopped before or after the step <code>${interrupt.node ?? interrupt.id}</code>.</p>
      <${Button} class="primary" why=${why} onClick=${() => answer(true)}>Go on<//>`;
  return html`<${Question} value=${value} answer=${answer} why=${why} />`;
}

// Several calls that are decided together.
function Approvals({ requests, answer, why }) {
  const [decisions, setDecisions] = useState([]);
  const decide = (decision) => {
    const all = [...decisions, decision];
    setDecisions(all);
    if (all.length === requests.length) answer(all);
  };
  const request = requests[decisions.length];
  return request && html`<${Approval} key=${decisions.length} name=${request.name}
    args=${request.args ?? request.arguments} answer=${decide} why=${why} />`;
}

function Approval({ name, args, answer, why }) {
  const before = JSON.stringify(args, null, 2);
  const [text, setText] = useState(before);
  const [reason, setReason] = useState("");
  const edited = parsed(text);
  const approve = () => answer(text === before
    ? { type: "approve" } : { type: "edit", edited_action: { name, args: edited } });
  return html`
    <p>May the agent call <b>${name}</b>?</p>
    <label>Arguments <textarea rows=${Math.min(8, text.split("\n").length)} spellcheck=${false} value=${text}
      onInput=${(event) => setText(event.target.value)} /></label>
    <div class="row">
      <${Button} class="primary" why=${why || (edited ? "" : "The arguments must be a JSON object")} onClick=${approve}>
        ${text === before ? "Approve" : "Approve as edited"}<//>
      <${Button} class="danger" why=${why} onClick=${() => answer({ type: "reject", ...(reason
        && { message: reason }) })}>Refuse<//>
      <input placeholder="Why not? (for the model)" aria-label="Reason for a refusal" value=${reason}
        onInput=${(event) => setReason(event.target.value)} />
    </div>`;
}

function parsed(text) {
  try {
    const found = JSON.parse(text);
    return found && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

function Question({ value, answer, why }) {
  const [text, setText] = useState("");
  const { question, ...rest } = typeof value === "object" ? value : { question: value };
  const details = question === undefined ? value : Object.keys(rest).length ? rest : null;
  return html`
    <form onSubmit=${(event) => { event.preventDefault(); if (text && !why) answer(text); }}>
      <p>${question === undefined ? "The agent asks:" : String(question)}</p>
      ${details && html`<pre>${JSON.stringify(details, null, 2)}</pre>`}
      <div class="row"><input aria-label="Answer" placeholder="Answer" value=${text}
        onInput=${(event) => setText(event.target.value)} />
      <button class="primary" aria-disabled=${why || !text ? "true" : undefined} title=${why || (text ? ""
        : "There is no answer yet")}>Answer</button></div>
    </form>`;
}
