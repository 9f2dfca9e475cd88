// The list of threads.

import { useState } from "./vendor/hooks.js";
import { Button, Problem, Time, html } from "./ui.js";

export function Threads({ session }) {
  const [sought, setSought] = useState("");
  const { list, isComplete, error } = session.threads;
  const words = sought.toLowerCase().split(/\s+/).filter(Boolean);
  const found = list.filter((thread) => {
    const text = `${thread.title ?? ""} ${thread.thread_id} ${thread.last_message ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  return html`
    <nav class="threads" aria-label="Threads">
      <${Button} class="primary" onClick=${() => session.open({ threadId: null })}>New conversation<//>
      <input type="search" placeholder="Search" aria-label="Search threads" value=${sought}
        onInput=${(event) => setSought(event.target.value)} />
      ${error && html`<${Problem} error=${error}><${Button} onClick=${() => session.listThreads()}>Try again<//><//>`}
      <ul>${found.map((thread) => html`<${Thread} key=${thread.thread_id} ...${{ session, thread }} />`)}</ul>
      ${!found.length && !error && html`<p class="quiet">${words.length ? "No thread that is listed has these words."
        : "No conversation yet."}</p>`}
      ${!isComplete && list.length > 0 && html`<${Button} class="plain"
        onClick=${() => session.listThreads({ more: true })}>
        ${words.length ? "Search older ones" : "Older ones"}<//>`}
    </nav>`;
}

function Thread({ session, thread }) {
  const open = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return; // in another window
    event.preventDefault();
    session.open({ threadId: thread.thread_id });
  };
  const mark = thread.running_response_id ? "at work" : thread.next_nodes?.length ? "waiting" : null;
  return html`
    <li>
      <a href=${`?${new URLSearchParams({ thread: thread.thread_id })}`} onClick=${open}
        aria-current=${thread.thread_id === session.threadId ? "page" : undefined}>
        <span class="title">${thread.title ?? thread.thread_id}</span>
        <span class="quiet"><${Time} at=${thread.updated_at} />${thread.turn
          && html` · ${thread.turn} ${thread.turn === 1 ? "turn" : "turns"}`}${thread.branch_count > 1
          && html` · ${thread.branch_count} branches`}
        ${mark && html` <span class=${`mark ${mark === "waiting" ? "waits" : "works"}`}>${mark}</span>`}</span>
      </a>
    </li>`;
}
