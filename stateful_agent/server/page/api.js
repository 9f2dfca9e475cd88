// The server's HTTP interface, as far as the page needs it. `/docs` shows all of it.

export class ApiError extends Error {
  constructor({ message, code = null }, status) {
    super(message);
    this.code = code;
    this.status = status; // 0: there was no answer
  }
}

async function send(method, path, body, { signal, key } = {}) {
  const headers = { "content-type": "application/json" };
  if (key) headers["idempotency-key"] = key;
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), { method, headers, signal, body: body
      && JSON.stringify(body) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError({ message: "The server cannot be reached." }, 0);
  }
  if (response.ok) return response;
  const { status } = response;
  const answer = await response.json().catch(() => null);
  throw new ApiError(answer?.error ?? { message: `The server answered with status ${status}.` }, status);
}

const ask = async (...request) => (await send(...request)).json();
const of = (threadId) => `threads/${encodeURIComponent(threadId)}`;

export const listThreads = (limit, before) =>
  ask("GET", `threads?limit=${limit}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
export const getThread = (threadId) => ask("GET", of(threadId));
export const renameThread = (threadId, title) => ask("PATCH", of(threadId), { metadata: { title } });
export const copyThread = (threadId) => ask("POST", `${of(threadId)}/copy`, {});
export const deleteThread = (threadId) => ask("DELETE", of(threadId));
export const getHistory = (threadId, limit, before) =>
  ask("GET", `${of(threadId)}/history?limit=${limit}${before ? `&before=${before}` : ""}`);
export const getState = (threadId, checkpointId, { subgraphs = false } = {}) => {
  const at = checkpointId ? `/${encodeURIComponent(checkpointId)}` : "";
  return ask("GET", `${of(threadId)}/state${at}${subgraphs ? "?subgraphs=true" : ""}`);
};
export const editState = (threadId, edit) => ask("POST", `${of(threadId)}/state`, edit);
export const cancelRun = (responseId) => ask("POST", `v1/responses/${responseId}/cancel`, {});

const ENDS = ["response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"];
const PATIENCE = 60_000; // milliseconds without the server, until one gives up

// The events of a turn, to its end: of a new one that `body` asks for, or of one that runs already. It runs in the
// background, so that it goes on when the page is closed; when the connection breaks, the rest is asked for again.
export async function* turnEvents({ body, responseId }, onLost) {
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(36)).join("-");
  let after = -1;
  let lostAt = null;
  for (;;) {
    try {
      const response = responseId
        ? await send("GET", `v1/responses/${responseId}?stream=true${after < 0 ? "" : `&starting_after=${after}`}`)
        : await send("POST", "v1/responses", { ...body, stream: true, background: true }, { key });
      for await (const event of serverSentEvents(response)) {
        if (lostAt) onLost((lostAt = null));
        after = event.sequence_number ?? after;
        responseId ??= event.response?.id;
        yield event;
        if (ENDS.includes(event.type)) return;
      }
    } catch (error) {
      if (error instanceof ApiError && error.status !== 0) throw error;
      lostAt ??= Date.now();
      if (Date.now() - lostAt > PATIENCE) throw new ApiError({ message: "The server cannot be reached." }, 0);
    }
    onLost((lostAt ??= Date.now()));
    await new Promise((done) => setTimeout(done, 1000));
  }
}

async function* serverSentEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
