// The tree of a thread, drawn like git's graph: newest below, a branch in a lane of its own.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
import { lay } from "./tree.js";
import { Button, Time, html, shorten } from "./ui.js";

const ROW = 34; // pixels
const LANE = 16;
const MOST_LANES = 8; // what is beyond shares the last one's place

export function TreeView({ session, onInspect, onCompare }) {
  const { tree, node } = session;
  const [every, setEvery] = useState(false);
  if (!tree) return html`<aside class="tree" aria-label="Tree"><header><h2>Tree</h2></header>
    <p class="quiet">${session.threadId ? "Loading…" : "Each turn will be a node here."}</p></aside>`;
  const tips = tree.tips.length;
  return html`
    <aside class="tree" aria-label="Tree">
      <header><h2>Tree</h2>
        <span class="quiet">${tips} ${tips === 1 ? "branch" : "branches"}${session.isPartial ? " so far, loading…"
          : ""}</span></header>
      <div class="row">
        <label class="switch"><input type="checkbox" checked=${every}
          onChange=${() => setEvery(!every)} /> Every checkpoint</label>
        <${Button} class="plain" onClick=${() => onInspect(node.id)}>Insides<//>
        <${Button} class="plain" why=${tips > 1 ? "" : "There is one branch only"} onClick=${onCompare}>Compare<//>
      </div>
      <${Graph} session=${session} every=${every} />
    </aside>`;
}

function Graph({ session, every }) {
  const { tree, node, path } = session;
  const { rows, lanes } = useMemo(
    () => lay(every ? [...tree.nodes.values()] : tree.turns),
    [tree, every],
  );
  const scroller = useRef(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const look = () => scroller.current
    && setView({ top: scroller.current.scrollTop, height: scroller.current.clientHeight });
  useEffect(() => {
    const observer = new ResizeObserver(look);
    observer.observe(scroller.current);
    return () => observer.disconnect();
  }, []);
  const current = rows.find(({ item }) => item === (every ? node : node.group));
  useLayoutEffect(() => {
    const top = current ? current.index * ROW : 0;
    const { scrollTop, clientHeight } = scroller.current;
    const isInSight = top >= scrollTop && top <= scrollTop + clientHeight - 2 * ROW;
    if (!isInSight) scroller.current.scrollTop = top - clientHeight / 2;
    look();
  }, [current?.item.id, every]);
  const onPath = useMemo(() => new Set(every ? path : path.map((each) => each.group)), [path, every]);
  const first = Math.max(0, Math.floor(view.top / ROW) - 10);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + 10);
  const shown = rows.slice(first, last);
  const lines = rows.filter(({ index, from }) => from && index >= first && from.index < last);
  const x = (row) => 12 + Math.min(row.lane, MOST_LANES - 1) * LANE;
  const y = (row) => row.index * ROW + ROW / 2;
  const width = 12 + Math.min(lanes, MOST_LANES) * LANE;
  const onKeyDown = (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const buttons = [...scroller.current.querySelectorAll("button")];
    const to = step && buttons[buttons.indexOf(document.activeElement) + step];
    if (!to) return;
    event.preventDefault();
    to.focus();
  };
  return html`
    <div class="graph" ref=${scroller} onScroll=${look} onKeyDown=${onKeyDown}>
      <svg width=${width} height=${rows.length * ROW} aria-hidden="true">
        ${lines.map((row) => html`<path key=${row.item.id} class=${onPath.has(row.item) ? "lit"
          : ""} d=${lineOf(x(row.from), y(row.from), x(row), y(row))} />`)}
        ${shown.map((row) => html`<circle key=${row.item.id}
          class=${classOf(row.item, tree, onPath)} cx=${x(row)} cy=${y(row)} r="5" />`)}
      </svg>
      <ol style=${{ height: `${rows.length * ROW}px` }}>
        ${shown.map((row) => html`<${Row} key=${row.item.id} ...${{ session, row, every, left: width }}
          isCurrent=${row === current} isOnPath=${onPath.has(row.item)} />`)}
      </ol>
    </div>`;
}

function Row({ session, row, every, left, isCurrent, isOnPath }) {
  const { item } = row;
  const last = every ? item : item.last;
  const marks = [last === session.tree.head && "head", !last.children.length && last !== session.tree.head && "tip"];
  const waits = last.interrupts?.length && !last.children.length && "waits";
  const label = every ? `${item.nodes.join(", ") || item.source} → ${item.next_nodes?.join(", ") || "end"}`
    : item.label;
  return html`
    <li style=${{ top: `${row.index * ROW}px`, left: `${left}px` }}>
      <button type="button" class=${isOnPath ? "lit" : ""} aria-current=${isCurrent ? "true" : undefined}
        title=${`${label}\n${last.id}`}
        onClick=${() => session.show(every ? item : item.last)}>
        <span class="label">${every && html`<span class="quiet">${item.step}</span> `}${shorten(label, 80)}</span>
        ${[...marks, waits].filter(Boolean).map((mark) => html`<span class=${`mark ${mark}`}>${mark}</span>`)}
        <span class="quiet"><${Time} at=${last.timestamp} style="narrow" /></span>
      </button>
    </li>`;
}

const lineOf = (x1, y1, x2, y2) =>
  x1 === x2 ? `M${x1} ${y1}V${y2}` : `M${x1} ${y1}C${x1} ${y1 + ROW} ${x2} ${y1} ${x2} ${Math.min(y2, y1 + ROW)}V${y2}`;

function classOf(item, tree, onPath) {
  const last = item.last ?? item;
  return [onPath.has(item) && "lit", last === tree.head && "head", !last.children.length
    && "tip"].filter(Boolean).join(" ");
}
