// What the JavaScript drivers share: a case runs on a thread of its own, and a line of JSON says what its client saw.

export const [name, url, strictUrl] = process.argv.slice(2);

export const SF = "I'm headed to SF!", OSLO = "I'm headed to Oslo!", WHERE = "Where am I going?";
export const WEATHER = "What is the weather in SF and LA?", WARMER = "Which one is warmer?";
export const SF_WEATHER = "What is the weather in SF?", OUTPUT = "SF: 60°F";
export const SLOWLY = "slowly", BREAK_OFF = "break off";

const object = (properties) => ({
  type: "object", properties, required: Object.keys(properties), additionalProperties: false,
});
export const PLACE = object({ location: { type: "string" } });
export const SCHEMA = object({ city: { type: "string" }, days: { type: "integer" } });

/** What a client showed its user. */
class Saw {
  text = "";
  deltas = 0;
  calls = [];
  statuses = [];
  error = null;

  constructor(name_, by) {
    this.case = name_;
    this.by = by;
    this.thread_id = `${name} ${name_} ${by}`.replace(/\W+/g, "-");
  }

  receive(delta) {
    this.text += delta;
    this.deltas += delta !== "";
  }
}

/** Run a case now, and print what it saw; `by` says which of the client's ways it goes. */
export async function test(case_, by, run) {
  const saw = new Saw(case_, by);
  try {
    await run(saw);
  } catch (error) {
    saw.error = [error.constructor.name, error.message ?? JSON.stringify(error)];
  }
  console.log(JSON.stringify(saw));
}

export function check(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}
