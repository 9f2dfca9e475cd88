// The path that is shown, as a chat, and the field in which it goes on.

import { useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.js";
import { Item, resultsIn } from "./items.js";
import { isFrom, textOf } from "./messages.js";
import { Button, Confirm, CopyButton, Problem, html } from "./ui.js";
import { Waiting } from "./waiting.js";

const FEW = 30; // turns that are shown at first

export function Conversation({ session }) {
  const { run, turns } = session;
  const [count, setCount] = useState(FEW);
  const scroller = useRef(null);
  const isAtEnd = useRef(true);
  useEffect(() => setCount(FEW), [session.threadId]);
  useLayoutEffect(() => { isAtEnd.current = true; }, [session.threadId, session.node, Boolean(run)]);
  useLayoutEffect(() => { if (isAtEnd.current) scroller.current.scrollTop = scroller.current.scrollHeight; });
  const onScroll = ({ target }) => {
    isAtEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < 60;
  };
  const shown = turns.slice(-count);
  const results = resultsIn(session.state?.messages ?? []);
  const state = session.state;
  const isUnfinished = state?.next_nodes?.length > 0 && !state.interrupts.length && !run;
  return html`
    <div class="scroller" ref=${scroller} onScroll=${onScroll} tabindex="0" role="region" aria-label="Messages">
      <div class="messages">
        ${count < turns.length && html`<${Button} class="plain"
          onClick=${() => { isAtEnd.current = false; setCount(count + 4 * FEW); }}>
          Show earlier turns (${turns.length - count})<//>`}
        ${!session.threadId && !run && html`<${Welcome} />`}
        ${session.threadId && !turns.length && session.isLoading && html`<p class="quiet" role="status">Loading…</p>`}
        ${shown.map((turn) => html`<${Turn} key=${turn.group.id} ...${{ session, turn, results }} />`)}
        ${run && (run.isLeft ? html`<p class="quiet" role="status">A turn is at work on another branch.</p>`
          : html`<${Running} session=${session} run=${run} />`)}
        ${state && !run && state.interrupts.length > 0 && html`<${Waiting}
          session=${session} interrupts=${state.interrupts} />`}
        ${isUnfinished && html`<div class="waiting">
          <p>This checkpoint is in the midst of a turn: next is <code>${state.next_nodes.join(", ")}</code>.</p>
          <${Button} why=${session.busyWith}
            onClick=${() => session.send([], { from: session.node.id })}>Run it from here<//></div>`}
        ${session.error && html`<${Problem} error=${session.error}>
          <${Button} onClick=${() => session.reload()}>Reload<//><//>`}
      </div>
    </div>`;
}

const Welcome = () => html`<div class="welcome"><h2>What is it about?</h2>
  <p>Every step that the agent takes is kept. Ask again from any of them, change what it knew, and compare where that
  leads: no branch is lost.</p></div>`;

function Turn({ session, turn, results }) {
  const { group, messages } = turn;
  const choices = session.choices.filter((choice) => turn.nodes.includes(choice.versions[choice.chosen]));
  const visible = messages.filter((message) => message.items.some((item) => item.type !== "function_call_output"));
  const choicesAt = (message) => choices.filter((choice) => choice.at === message.nth);
  const others = choices.filter((choice) => !visible.some((message) => message.nth === choice.at));
  return html`
    <article class="turn">
      ${others.map((choice) => html`<${Versions} session=${session} choice=${choice} />`)}
      ${group.kind === "edit" && html`<p class="quiet edited">Edited here</p>`}
      ${visible.map((message) => html`
        <${Message} key=${message.id} ...${{ session, turn, message, results }} choices=${choicesAt(message)} />`)}
    </article>`;
}

function Message({ session, turn, message, results, choices }) {
  const [doing, setDoing] = useState(null);
  const isUser = isFrom(message, "user");
  const isText = message.items.every((item) => item.type === "message");
  const why = session.busyWith;
  const { node } = session;
  const begins = turn.group.kind === "turn" ? "" : "No checkpoint comes before it";
  const askAgain = (text) => {
    const begin = turn.group.nodes[0];
    setDoing(null);
    session.send(text, { from: (begin.parent ?? begin).id });
  };
  const answered = turn.nodes.find((each) => each.message_count === message.nth
    && !each.next_nodes?.includes("__start__") && each.next_nodes?.length);
  const saved = (text) => {
    setDoing(null);
    const { role } = message.items[0];
    session.edit(node.id, { new_messages: [{ type: "message", role, id: message.id, content: text }] });
  };
  const lastOfTurn = turn.messages.at(-1) === message;
  return html`
    <div class=${`message ${isUser ? "user" : "agent"}`} data-message=${message.id}>
      <h2 class="visually-hidden">${isUser ? "You" : "The agent"}</h2>
      ${choices.map((choice) => html`<${Versions} session=${session} choice=${choice} />`)}
      ${doing === "again" || doing === "edit"
        ? html`<${Editor} text=${textOf(message)} label=${doing === "again" ? "Ask again" : "Save"}
          note=${doing === "again" ? "A new branch; this one is kept." : "A new checkpoint; no model is asked."}
            why=${why} onSave=${doing === "again" ? askAgain : saved} onCancel=${() => setDoing(null)} />`
        : html`<div class="bubble">${message.items.map((item) => html`<${Item} item=${item}
          results=${results} />`)}</div>`}
      ${!doing && html`<div class="actions">
        <${CopyButton} text=${textOf(message)} />
        ${isUser && html`<${Button} class="plain" why=${why || begins}
          onClick=${() => setDoing("again")}>Edit and ask again<//>`}
        ${!isUser && answered && html`<${Button} class="plain" why=${why}
          onClick=${() => session.send([], { from: answered.id })}>Regenerate<//>`}
        ${lastOfTurn && turn.nodes.at(-1) !== node && html`<${Button} class="plain" why=${why}
          onClick=${() => session.show(turn.nodes.at(-1))}>Continue from here<//>`}
        <${Button} class="plain" why=${why || (isText ? "" : "Calls of tools cannot be edited here")}
          onClick=${() => setDoing("edit")}>Edit in place<//>
        <${Button} class="plain" why=${why} onClick=${() => setDoing("delete")}>Delete<//>
      </div>`}
      ${doing === "delete" && html`<${Confirm} title="Delete this message?" action="Delete"
        onClose=${() => setDoing(null)}
        onConfirm=${() => session.edit(node.id, { remove_messages: [message.id] })}>
        The agent will not know it in what follows. The checkpoints that have it are kept.<//>`}
    </div>`;
}

function Versions({ session, choice }) {
  const why = session.busyWith;
  const { versions, chosen } = choice;
  const go = (index) => () => session.choose(versions[index]);
  return html`
    <div class="versions" role="group" aria-label="Versions">
      <${Button} class="plain" aria-label="Previous version" why=${why || (chosen ? "" : "This is the first")}
        onClick=${go(chosen - 1)}>‹<//>
      <span>${chosen + 1} / ${versions.length}</span>
      <${Button} class="plain" aria-label="Next version" why=${why || (versions[chosen + 1] ? "" : "This is the last")}
        onClick=${go(chosen + 1)}>›<//>
    </div>`;
}

function Editor({ text: before, label, note, why: whyBusy, onSave, onCancel }) {
  const [text, setText] = useState(before);
  const why = whyBusy || (text.trim() ? "" : "There is no text");
  const field = useRef(null);
  useLayoutEffect(() => field.current.focus(), []); // before the next key
  const onKeyDown = (event) => {
    if (event.key === "Escape") onCancel();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !why) onSave(text);
  };
  return html`
    <div class="editor">
      <textarea ref=${field} aria-label="Message" rows=${Math.min(12, text.split("\n").length + 1)} value=${text}
        onInput=${(event) => setText(event.target.value)} onKeyDown=${onKeyDown} />
      <div class="row"><${Button} class="primary" why=${why}
        onClick=${() => onSave(text)}>${label}<//>
        <${Button} onClick=${onCancel}>Cancel<//><span class="quiet">${note}</span></div>
    </div>`;
}

function Running({ session, run }) {
  const known = new Set((session.state?.messages ?? []).flatMap((item) => [item.id, item.message_id]));
  const items = run.items.filter((item) => item && !known.has(item.id) && item.type !== "mcp_approval_request"
    && !item.id?.startsWith("wait_"));
  const results = resultsIn(items);
  const doing = session.isLost ? "The connection is lost. Trying again…"
    : run.isStopping ? "Stopping…" : "At work…";
  return html`
    <article class="turn running">
      ${run.question !== null && html`<div class="message user"><h2 class="visually-hidden">You</h2>
        <div class="bubble"><div class="plain-text">${run.question}</div></div></div>`}
      <div class="message agent"><h2 class="visually-hidden">The agent</h2><div class="bubble">
        ${items.filter((item) => item.type !== "function_call_output").map((item) => html`<${Item} item=${item}
          results=${results} isLive />`)}
        <p class="quiet" role="status">${doing}</p>
      </div></div>
    </article>`;
}

// It keeps its text to itself: to type draws nothing else anew.
export function Composer({ session }) {
  const [text, setText] = useState("");
  const field = useRef(null);
  const { run, unsent } = session;
  useEffect(() => {
    if (unsent === undefined) return;
    setText((now) => now || unsent);
    session.unsent = undefined;
  }, [unsent]);
  useLayoutEffect(() => field.current.focus({ preventScroll: true }), [session.threadId]);
  useLayoutEffect(() => {
    field.current.style.height = "auto";
    field.current.style.height = `${Math.min(field.current.scrollHeight, 240)}px`;
  }, [text]);
  const why = session.busyWith || (text.trim() ? "" : "There is no text");
  const send = () => {
    if (why) return;
    setText("");
    session.send(text);
  };
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  const whyNotStop = !run?.responseId ? "It has not begun" : run.isStopping ? "It is being stopped" : "";
  const isTip = !session.node?.children.length;
  const where = session.isAtHead ? "" : isTip ? "Goes on on this branch"
    : "Goes on from this checkpoint, as a new branch";
  return html`
    <form class="composer" onSubmit=${(event) => { event.preventDefault(); send(); }}>
      ${where && html`<p class="quiet">${where} · <${Button} class="plain"
        onClick=${() => session.open({ threadId: session.threadId })}>Go to the newest<//></p>`}
      <div class="field">
        <textarea ref=${field} rows="1" placeholder="Message" aria-label="Message to the agent" value=${text}
          onKeyDown=${onKeyDown} onInput=${(event) => setText(event.target.value)} />
        ${run
          ? html`<${Button} class="danger" why=${whyNotStop} onClick=${() => session.stop()}>Stop<//>`
          : html`<${Button} class="primary" why=${why} onClick=${send}>Send<//>`}
      </div>
    </form>`;
}
