// The items of a message, as a person reads them.

import { Markdown } from "./markdown.js";
import { html, shorten } from "./ui.js";

// `results` are outputs by the id of their call.
export function Item({ item, results, isLive }) {
  switch (item.type) {
    case "message":
      return contentOf(item).map((part) => html`<${Part} part=${part} isPlain=${item.role !== "assistant"} />`);
    case "reasoning": {
      const text = [...(item.summary ?? []), ...(item.content ?? [])].map((part) => part.text).join("\n\n");
      return text && html`<details class="reasoning"><summary>Reasoning</summary><${Markdown} text=${text} />
        </details>`;
    }
    case "function_call":
    case "mcp_call":
      return html`<${Call} item=${item} output=${item.output ?? results.get(item.call_id)} isLive=${isLive} />`;
    case "compaction":
      return html`<p class="quiet">Earlier messages were made shorter here.</p>`;
    default:
      return html`<details><summary>${item.type}</summary><pre>${JSON.stringify(item, null, 2)}</pre></details>`;
  }
}

const contentOf = (item) => (typeof item.content === "string" ? [{ type: "input_text", text: item.content }]
  : item.content ?? []);

function Part({ part, isPlain }) {
  if (part.type === "input_image") {
    const isHere = part.image_url?.startsWith("data:image/");
    return isHere ? html`<img src=${part.image_url} alt="attached" />` : html`<p><a
      href=${safe(part.image_url)} target="_blank" rel="noopener noreferrer">Image</a></p>`;
  }
  if (part.type === "input_file") return html`<p class="quiet">📎 ${part.filename ?? "file"}</p>`;
  const text = part.text ?? part.refusal;
  if (text === undefined) return html`<details><summary>${part.type}</summary>
    <pre>${JSON.stringify(part, null, 2)}</pre></details>`;
  return isPlain ? html`<div class="plain-text">${text}</div>` : html`<${Markdown} text=${text} />`;
}

const safe = (address) => (/^https?:/.test(address ?? "") ? address : undefined);

function Call({ item, output, isLive }) {
  const isOpen = output === undefined || output === null;
  return html`
    <details class="call">
      <summary><b>${item.name}</b> <code>${shorten(item.arguments ?? "", 80)}</code>
        ${isOpen && html` <span class="quiet">${isLive ? "…" : "not answered"}</span>`}</summary>
      <pre aria-label="Arguments">${pretty(item.arguments)}</pre>
      ${!isOpen && html`<pre aria-label="Result">${typeof output === "string"
        ? output : JSON.stringify(output, null, 2)}</pre>`}
    </details>`;
}

export function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

export const resultsIn = (items) =>
  new Map(items.filter((item) => item.type === "function_call_output").map((item) => [item.call_id, item.output]));
