// The HTTP interface, from the server's own description of it in /openapi.json.

import { sanitized } from "./markdown.js";
import { html } from "./ui.js";
import { render } from "./vendor/preact.js";

function Reference({ described }) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(described.paths))
    for (const [method, route] of Object.entries(methods)) {
      const name = route.tags?.[0] ?? "turns and the server";
      groups.set(name, [...(groups.get(name) ?? []), { path, method, route }]);
    }
  return html`
    <main class="reference">
      <h1>HTTP interface</h1>
      <p>Made from <a href="openapi.json">openapi.json</a>, which generators of clients read. <a
        href="./">The page for time travel</a> uses nothing else.</p>
      ${[...groups].map(([name, routes]) => html`<section>
        <h2>${name}</h2>${routes.map((each) => html`<${Route} described=${described} ...${each} />`)}</section>`)}
    </main>`;
}

function Route({ described, path, method, route }) {
  const body = route.requestBody?.content?.["application/json"]?.schema;
  return html`
    <details>
      <summary><b>${method.toUpperCase()}</b> <code>${path}</code> ${route.summary}</summary>
      ${route.description && html`<div class="markdown"
        dangerouslySetInnerHTML=${{ __html: sanitized(route.description) }} />`}
      ${route.parameters?.length > 0 && html`<h4>Parameters</h4><ul>${route.parameters.map((each) => html`
        <li><code>${each.name}</code> <span class="quiet">${each.in}${each.required ? ", required"
          : ""}</span> ${each.description}</li>`)}</ul>`}
      ${body && html`<h4>Body</h4><pre>${JSON.stringify(resolved(body, described), null, 2)}</pre>`}
      <h4>Answers</h4><ul>${Object.entries(route.responses ?? {}).map(([status, each]) => html`<li>
        <code>${status}</code> ${each.description}</li>`)}</ul>
    </details>`;
}

// A schema with what it refers to in its place.
function resolved(schema, described, above = []) {
  if (Array.isArray(schema)) return schema.map((each) => resolved(each, described, above));
  if (!schema || typeof schema !== "object") return schema;
  const { $ref: reference } = schema;
  if (reference && above.includes(reference)) return reference;
  if (reference) return resolved(reference.split("/").slice(1).reduce((at,
    key) => at[key], described), described, [...above, reference]);
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolved(value, described, above)]));
}

const described = await (await fetch("openapi.json")).json();
render(html`<${Reference} described=${described} />`, document.body);
