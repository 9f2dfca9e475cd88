// The OpenAI client for JavaScript.

import { setTimeout } from "node:timers/promises";
import OpenAI from "openai";
import {
  BREAK_OFF, check, OSLO, OUTPUT, PLACE, SCHEMA, SF, SF_WEATHER, SLOWLY, strictUrl, test, url, WARMER, WEATHER,
  WHERE,
} from "./driver.mjs";

const client = new OpenAI({ baseURL: url, apiKey: "none" });
const strict = new OpenAI({ baseURL: strictUrl, apiKey: "none" });

const place = (saw, more) => ({ custom_inputs: { thread_id: saw.thread_id, ...more } });
const ask = (input, fields) => client.responses.create({ model: "agent", input, ...fields });
const callsIn = (response) => response.output.filter((item) => item.type === "function_call").map((item) => item.name);

async function receive(saw, events) {
  let event;
  for await (event of events) if (event.type === "response.output_text.delta") saw.receive(event.delta);
  return event;
}

const stream = (client, input, saw, more) =>
  client.responses.create({ model: "agent", input, stream: true, ...place(saw), ...more });

async function hearByHelper(saw, client, input) {
  const received = client.responses.stream({ model: "agent", input, ...place(saw) });
  await receive(saw, received);
  return received.finalResponse();
}

await test("answer", "", async (saw) => {
  saw.text = (await ask(SF, place(saw))).output_text;
});

await test("stream", "create", async (saw) => {
  await receive(saw, await stream(client, SF, saw));
});

await test("stream", "stream", async (saw) => {
  const final = await hearByHelper(saw, client, SF);
  check(final.output_text === saw.text, `the final text is ${final.output_text}`);
});

await test("tool call", "create", async (saw) => {
  const response = await ask(WEATHER, place(saw));
  saw.text = response.output_text;
  saw.calls = callsIn(response);
});

await test("tool call", "stream", async (saw) => {
  saw.calls = callsIn(await hearByHelper(saw, client, WEATHER));
});

await test("second turn", "previous_response_id", async (saw) => {
  const first = await ask(WEATHER, place(saw));
  saw.text = (await ask(WARMER, { previous_response_id: first.id })).output_text;
});

await test("second turn", "conversation", async (saw) => {
  await ask(WEATHER, place(saw));
  saw.text = (await ask(WARMER, { conversation: saw.thread_id })).output_text;
});

await test("second turn", "history", async (saw) => {
  const history = [{ role: "user", content: WEATHER }];
  history.push(...(await ask(history, place(saw))).output, { role: "user", content: WARMER });
  saw.text = (await ask(history, place(saw))).output_text;
});

await test("second turn", "conversations.create", async (saw) => {
  saw.thread_id = (await client.conversations.create()).id;
  await ask(WEATHER, { conversation: saw.thread_id });
  saw.text = (await ask(WARMER, { conversation: saw.thread_id })).output_text;
});

const tools = [{ type: "function", name: "get_weather", parameters: PLACE, strict: true }];

await test("client function", "create", async (saw) => {
  const asked = await ask(SF_WEATHER, { tools, ...place(saw) });
  saw.calls = callsIn(asked);
  const output = { type: "function_call_output", call_id: asked.output.at(-1).call_id, output: OUTPUT };
  saw.text = (await ask([output], { previous_response_id: asked.id })).output_text;
});

await test("JSON schema", "create", async (saw) => {
  const format = { type: "json_schema", name: "Trip", schema: SCHEMA, strict: true };
  saw.text = (await ask(SF, { text: { format }, ...place(saw) })).output_text;
});

await test("fork", "custom_inputs", async (saw) => {
  const first = await ask(SF, place(saw));
  await ask(OSLO, place(saw));
  saw.text = (await ask(WHERE, { custom_inputs: first.custom_outputs })).output_text;
});

await test("fork", "previous_response_id", async (saw) => {
  const first = await ask(SF, place(saw));
  await ask(OSLO, { previous_response_id: first.id });
  saw.text = (await ask(WHERE, { previous_response_id: first.id })).output_text;
});

await test("refused", "", (saw) => ask(SF, place(saw, { checkpoint_id: "none" })));

await test("broken off", "create", async (saw) => {
  await receive(saw, await stream(strict, BREAK_OFF, saw));
});

await test("broken off", "stream", (saw) => hearByHelper(saw, strict, BREAK_OFF));

await test("background", "", async (saw) => {
  let response = await strict.responses.create({ model: "agent", input: SLOWLY, background: true, ...place(saw) });
  saw.statuses.push(response.status);
  while (["queued", "in_progress"].includes(response.status)) {
    await setTimeout(200);
    response = await strict.responses.retrieve(response.id);
  }
  saw.statuses.push(response.status);
  saw.text = response.output_text;
});

await test("resumed", "", async (saw) => {
  let created, seen;
  for await (const event of await stream(strict, SLOWLY, saw, { background: true })) {
    if (event.type === "response.created") created = event;
    seen = event.sequence_number;
    if (event.type === "response.output_text.delta") {
      saw.receive(event.delta);
      break;
    }
  }
  const last = await receive(
    saw,
    await strict.responses.retrieve(created.response.id, { stream: true, starting_after: seen }),
  );
  saw.statuses.push(last.type);
});

await test("cancelled", "", async (saw) => {
  const { id, status } = await strict.responses.create({
    model: "agent", input: SLOWLY, background: true, ...place(saw),
  });
  saw.statuses.push(status, (await strict.responses.cancel(id)).status, (await strict.responses.retrieve(id)).status);
});
