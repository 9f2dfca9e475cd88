// The page: threads on the left, the conversation in the middle, its tree on the right.

import * as address from "./address.js";
import { Checkpoint } from "./checkpoint.js";
import { Compare } from "./compare.js";
import { Composer, Conversation } from "./conversation.js";
import { Session } from "./session.js";
import { Threads } from "./threads.js";
import { TreeView } from "./tree_view.js";
import { Button, Confirm, html } from "./ui.js";
import { render } from "./vendor/preact.js";
import { useEffect, useMemo, useState } from "./vendor/hooks.js";

function App() {
  const [, redraw] = useState(0);
  const session = useMemo(() => new Session(() => redraw((count) => count + 1)), []);
  const [dialog, setDialog] = useState(null); // {name, checkpointId}
  const [drawer, setDrawer] = useState(null); // on a narrow screen: "threads" or "tree"
  useEffect(() => {
    session.open(address.read());
    session.listThreads();
  }, []);
  useEffect(() => {
    document.title = session.thread?.title ? `${session.thread.title} · Stateful agent` : "Stateful agent";
  }, [session.thread?.title]);
  const close = () => setDialog(null);
  const choose = (event) => event.target.closest(".threads a, .threads .primary, .graph button") && setDrawer(null);
  const toggle = (name) => () => setDrawer(drawer === name ? null : name);
  return html`
    <div class="page" data-drawer=${drawer} onClick=${choose}>
      <${Threads} session=${session} />
      <main>
        <${Header} session=${session} onDelete=${() => setDialog({ name: "delete" })}
          onDrawer=${toggle} drawer=${drawer} />
        <${Conversation} session=${session} />
        <${Composer} session=${session} />
      </main>
      <${TreeView} session=${session} onInspect=${(checkpointId) => setDialog({ name: "insides", checkpointId })}
        onCompare=${() => setDialog({ name: "compare" })} />
    </div>
    ${dialog?.name === "insides" && html`<${Checkpoint} session=${session} checkpointId=${dialog.checkpointId}
      onClose=${close} />`}
    ${dialog?.name === "compare" && html`<${Compare} session=${session} onClose=${close} />`}
    ${dialog?.name === "delete" && html`<${Confirm} title="Delete this thread?" action="Delete" onClose=${close}
      onConfirm=${() => session.remove()}>
      All of its branches are deleted, for everybody. This cannot be undone.<//>`}`;
}

function Header({ session, onDelete, onDrawer, drawer }) {
  const { thread } = session;
  const [title, setTitle] = useState(null);
  useEffect(() => setTitle(null), [session.threadId]);
  const save = (event) => {
    event.preventDefault();
    if (title.trim()) session.rename(title.trim());
    setTitle(null);
  };
  return html`
    <header class="top">
      <${Button} class="plain narrow" aria-expanded=${drawer === "threads" ? "true" : "false"}
        onClick=${onDrawer("threads")}>Threads<//>
      ${title === null
        ? html`<h1>${thread ? thread.title ?? thread.thread_id : session.threadId ?? "New conversation"}</h1>
          ${thread && html`<div class="actions">
            <${Button} class="plain" onClick=${() => setTitle(thread.title ?? "")}>Rename<//>
            <${Button} class="plain" onClick=${() => session.copy()}>Copy<//>
            <${Button} class="plain" why=${session.busyWith} onClick=${onDelete}>Delete<//>
              </div>`}`
        : html`<form class="row" onSubmit=${save}><input aria-label="Title" value=${title}
          onInput=${(event) => setTitle(event.target.value)}
            ref=${(field) => field && document.activeElement !== field && field.focus()}
              onKeyDown=${(event) => event.key === "Escape" && setTitle(null)} />
            <button class="primary">Save</button></form>`}
      <a class="quiet" href="docs">API</a>
      <${Button} class="plain narrow" aria-expanded=${drawer === "tree" ? "true" : "false"}
        onClick=${onDrawer("tree")}>Tree<//>
    </header>`;
}

render(html`<${App} />`, document.body);
