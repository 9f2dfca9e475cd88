// What a model writes, as HTML that can do nothing: no script, no style, no form, and nothing from another host.

import DOMPurify from "./vendor/dompurify.js";
import { marked } from "./vendor/marked.js";
import { html } from "./ui.js";

const ALLOWED = {
  ALLOWED_TAGS: ("a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s strong sub sup table tbody td " +
    "th thead tr ul").split(" "),
  ALLOWED_ATTR: ["href", "src", "alt", "title", "align", "start"],
  ALLOWED_URI_REGEXP: /^(https?:|mailto:|data:image\/(png|jpeg|gif|webp);)/i,
};

DOMPurify.addHook("afterSanitizeAttributes", (element) => {
  if (element.tagName === "A") {
    element.setAttribute("target", "_blank");
    element.setAttribute("rel", "noopener noreferrer nofollow");
  }
  if (element.tagName === "IMG" && !element.getAttribute("src")?.startsWith("data:")) {
    const link = document.createElement("a"); // to load it would tell another host who reads this
    const source = element.getAttribute("src");
    if (source) link.href = source;
    link.textContent = element.getAttribute("alt") || source || "image";
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    element.replaceWith(link);
  }
});

export const sanitized = (text) => DOMPurify.sanitize(marked.parse(text, { gfm: true, breaks: true }), ALLOWED);

export const Markdown = ({ text }) => html`<div class="markdown"
  dangerouslySetInnerHTML=${{ __html: sanitized(text) }} />`;
