// What all parts of the page share: markup in templates, buttons, dialogs, and how times are written.

import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";
import { useLayoutEffect, useRef, useState } from "./vendor/hooks.js";

export const html = htm.bind(h);

// A button that says why it cannot be used.
export const Button = ({ why, children, class: name = "", ...rest }) => html`
  <button type="button" class=${name} aria-disabled=${why ? "true" : undefined} title=${why || undefined} ...${rest}
    onClick=${(event) => (why ? event.preventDefault() : rest.onClick?.(event))}>${children}</button>`;

export function Dialog({ title, onClose, children, wide }) {
  const ref = useRef(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`
    <dialog ref=${ref} class=${wide ? "wide" : ""} aria-label=${title} onClose=${onClose}
      onClick=${(event) => event.target === ref.current && ref.current.close()}>
      <header><h2>${title}</h2><${Button} class="plain" aria-label="Close" onClick=${() => ref.current.close()}>✕<//>
        </header>
      <div class="body">${children}</div>
    </dialog>`;
}

export function Confirm({ title, action, onConfirm, onClose, children }) {
  return html`
    <${Dialog} title=${title} onClose=${onClose}>
      <p>${children}</p>
      <footer>
        <${Button} onClick=${onClose}>Keep<//>
        <${Button} class="danger" onClick=${() => { onClose(); onConfirm(); }}>${action}<//>
      </footer>
    <//>`;
}

export const Problem = ({ error, children }) => html`
  <div class=${`problem ${error.isExpected ? "expected" : ""}`} role=${error.isExpected ? "status" : "alert"}>
    <p>${error.message}</p>${error.code && html`<code>${error.code}</code>`}<div>${children}</div></div>`;

export function CopyButton({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await writeToClipboard(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<${Button} class="plain" onClick=${copy}>${done ? "Copied" : label}<//>`;
}

async function writeToClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // a page that is not served over HTTPS has no clipboard
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
const words = {
  long: new Intl.RelativeTimeFormat("en"),
  narrow: new Intl.RelativeTimeFormat("en", { style: "narrow" }),
};

export function Time({ at, style = "long" }) {
  const seconds = (Date.now() - new Date(at)) / 1000;
  const unit = UNITS.find(([, length]) => seconds >= length);
  const text = unit ? words[style].format(-Math.floor(seconds / unit[1]), unit[0]) : style === "long" ? "just now"
    : "now";
  return html`<time datetime=${at} title=${new Date(at).toLocaleString()}>${text}</time>`;
}

export const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
