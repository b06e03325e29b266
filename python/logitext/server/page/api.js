// The server: what is asked of it, and every way that can fail as one sentence.

/** Something went wrong; its message is a sentence for people. */
export class Fault extends Error {
  /** @param {number} status of the reply; 0 if there was none. */
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

// In memory only: it is gone when the page is.
let token = null;
let asking = null;
let declined = false;

/** Ask for the token once, however many requests want it. */
function wanted(why) {
  // Most servers want none, so that what asks is fetched only now.
  asking ??= import("./token.js")
    .then(({ askToken }) => askToken(why))
    .finally(() => {
      asking = null;
    });
  return asking;
}

/** Let the dialog open again after it was declined. */
export function allowAsking() {
  declined = false;
}

/** A sentence begins large and ends with a stop. */
function sentence(words) {
  const trimmed = String(words).trim();
  const begun = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

async function request(path, { body, signal } = {}) {
  for (;;) {
    const used = token;
    const headers = {};
    if (used !== null) headers.Authorization = `Bearer ${used}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let reply;
    try {
      reply = await fetch(path, {
        method: body === undefined ? "GET" : "POST",
        body: body === undefined ? undefined : JSON.stringify(body),
        headers,
        signal,
        cache: "no-store",
        credentials: "omit",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Fault("The server cannot be reached. What you typed is kept, and is answered when it is back.");
    }
    if (reply.status !== 401) return reply;
    if (used !== token) continue; // Another request was given the token meanwhile.
    if (declined) throw new Fault("This server answers only with its token.", 401);
    const given = await wanted(used === null ? "" : "That token is not right.");
    if (given === null) declined = true;
    else token = given;
  }
}

async function fault(reply) {
  let words = "";
  try {
    words = (await reply.json()).error ?? "";
  } catch {
    // Not ours: a proxy, perhaps. The status must do.
  }
  return new Fault(sentence(words || `The server answered with status ${reply.status}`), reply.status);
}

/** JSON of a path, or a Fault. */
export async function json(path, options) {
  const reply = await request(path, options);
  if (!reply.ok) throw await fault(reply);
  try {
    return await reply.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The reply broke off. It is asked for again as you type on.");
  }
}

/** Text of a path, or a Fault. */
export async function text(path) {
  const reply = await request(path);
  if (!reply.ok) throw await fault(reply);
  return reply.text();
}

/** Half a surrogate pair, as while an emoji is deleted, is not text that can be sent. */
const whole = (value) => (value.toWellFormed ? value.toWellFormed() : value);

/** The labels a reply gives, as a list of names. */
export const given = (reply) => (reply.labels ?? [reply.label]).map(String);

/** POST /predict. */
export function predict(question, signal) {
  const body = { ...question };
  if (body.text !== undefined) body.text = whole(body.text);
  if (body.texts !== undefined) body.texts = body.texts.map(whole);
  return json("/predict", { body, signal });
}
