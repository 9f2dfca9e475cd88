// The AI SDK, with OpenAI's provider (AI SDK 7) or with Databricks' (which needs AI SDK 6).

import { createDatabricksProvider } from "@databricks/ai-sdk-provider";
import { createOpenAI } from "@ai-sdk/openai";
import {
  BREAK_OFF, check, name, OSLO, OUTPUT, PLACE, SCHEMA, SF, SF_WEATHER, strictUrl, test, url, WARMER, WEATHER, WHERE,
} from "./driver.mjs";

const databricks = name.includes("databricks");
const { generateText, jsonSchema, Output, stepCountIs, streamText, tool } = await import(databricks ? "ai6" : "ai");

// OpenAI's provider takes tools that ran on the server as `mcp_call` items; Databricks' as function calls, but only in
// a stream: its generateText would try to run them.
const provider = databricks ? "databricks" : "openai";
const inStream = databricks ? "function_call" : "mcp_call", inAnswer = databricks ? "hidden" : "mcp_call";

function connect(url) {
  return databricks
    ? createDatabricksProvider({ baseURL: url, useRemoteToolCalling: true }).responses("agent")
    : createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" }).responses("agent");
}

/** The arguments of a call: where the thread is goes in `metadata`, all that these providers pass on. */
function call(prompt, metadata, url_ = url) {
  return {
    model: connect(url_),
    ...(typeof prompt === "string" ? { prompt } : { messages: prompt }),
    stopWhen: stepCountIs(4),
    include: { responseBody: true },
    providerOptions: { [provider]: { metadata } },
  };
}

const ask = (prompt, metadata) => generateText(call(prompt, { tool_items: inAnswer, ...metadata }));
const place = (saw, more) => ({ thread_id: saw.thread_id, ...more });
const callsIn = (steps) => steps.flatMap((step) => step.toolCalls).map((call) => call.toolName.replace("mcp.", ""));

async function receive(saw, prompt, url_) {
  const metadata = { tool_items: inStream, ...place(saw) };
  const result = streamText({ ...call(prompt, metadata, url_), onError: () => {} });
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") saw.receive(part.text);
    if (part.type === "error") throw part.error;
    check(part.type !== "tool-error", `tool-error: ${part.error}`);
  }
  return result;
}

await test("answer", "", async (saw) => {
  saw.text = (await ask(SF, place(saw))).text;
});

await test("stream", "", async (saw) => {
  await receive(saw, SF);
});

await test("tool call", databricks ? "generateText (hidden)" : "generateText", async (saw) => {
  const result = await ask(WEATHER, place(saw));
  saw.text = result.text;
  saw.calls = callsIn(result.steps);
});

await test("tool call", "streamText", async (saw) => {
  const result = await receive(saw, WEATHER);
  saw.calls = callsIn(await result.steps);
});

await test("second turn", "history", async (saw) => {
  const history = [{ role: "user", content: WEATHER }];
  history.push(...(await (await receive(saw, history)).response).messages, { role: "user", content: WARMER });
  saw.text = (await ask(history, place(saw))).text;
});

await test("second turn", "metadata", async (saw) => {
  await ask(WEATHER, place(saw));
  saw.text = (await ask(WARMER, place(saw))).text;
});

const tools = {
  get_weather: tool({ description: "The weather there.", inputSchema: jsonSchema(PLACE), execute: () => OUTPUT }),
};

await test("client function", "generateText", async (saw) => {
  const result = await generateText({ ...call(SF_WEATHER, { tool_items: inAnswer, ...place(saw) }), tools });
  saw.text = result.text;
  saw.calls = callsIn(result.steps);
});

await test("JSON schema", "Output.object", async (saw) => {
  const output = Output.object({ schema: jsonSchema(SCHEMA) });
  const result = await generateText({ ...call(SF, { tool_items: inAnswer, ...place(saw) }), output });
  saw.text = JSON.stringify(result.output);
});

await test("fork", "metadata", async (saw) => {
  const first = await ask(SF, place(saw));
  await ask(OSLO, place(saw));
  saw.text = (await ask(WHERE, first.response.body.metadata)).text;
});

await test("refused", "", (saw) => ask(SF, place(saw, { checkpoint_id: "none" })));

await test("broken off", "", (saw) => receive(saw, BREAK_OFF, strictUrl));
