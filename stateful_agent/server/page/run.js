// A turn that is at work: what its events have told so far. Pure.

export const newRun = (question = null) => ({
  question,
  responseId: null,
  items: [],
  status: "in_progress",
  error: null,
  outputs: {},
});

export function apply(run, event) {
  const { type } = event;
  if (event.response) {
    run.responseId = event.response.id;
    run.status = event.response.status;
    run.error = event.response.error ?? null;
    run.outputs = { ...run.outputs, ...event.response.custom_outputs };
  } else if (type === "error") {
    run.status = "failed";
    run.error = event.error ?? { message: event.message, code: event.code };
  } else if (type === "response.output_item.added" || type === "response.output_item.done") {
    run.items[event.output_index] = event.item;
  } else if (type.endsWith(".delta")) {
    const item = run.items[event.output_index];
    if (!item) return;
    if (type.includes("arguments")) item.arguments = (item.arguments ?? "") + event.delta;
    else if (type.includes("summary")) grow((item.summary ??= []), event.summary_index, event.delta);
    else grow((item.content ??= []), event.content_index, event.delta, type.includes("refusal") ? "refusal" : "text");
  }
}

function grow(parts, index, delta, name = "text") {
  parts[index] ??= { type: name === "text" ? "output_text" : name };
  parts[index][name] = (parts[index][name] ?? "") + delta;
}
