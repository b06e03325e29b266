// Many texts, in batches: asked one batch after another, with patience, stopped whenever wanted.

import { Fault, predict } from "./api.js";

const TEXTS = 500;
const CHARACTERS = 2_000_000; // So that a body of any script stays well under the server's limit.
const PATIENCE = [500, 2000, 5000]; // Milliseconds before trying once more.

const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });

/** Cut texts into batches: where each ends. */
export function batches(texts, from = 0) {
  const ends = [];
  let begin = from;
  let characters = 0;
  for (let row = from; row < texts.length; row++) {
    if (row > begin && (row - begin >= TEXTS || characters + texts[row].length > CHARACTERS)) {
      ends.push(row);
      [begin, characters] = [row, 0];
    }
    characters += texts[row].length;
  }
  if (texts.length > from) ends.push(texts.length);
  return ends;
}

async function patiently(question, signal) {
  for (const ms of PATIENCE) {
    try {
      return await predict(question, signal);
    } catch (error) {
      if (!(error instanceof Fault) || (error.status !== 0 && error.status < 500)) throw error;
      await pause(ms, signal);
    }
  }
  return predict(question, signal);
}

/** Answer some texts. One that is refused for itself (too long, say) gets its sentence as an answer. */
async function answered(texts, wanted, signal) {
  try {
    return (await patiently({ ...wanted, texts }, signal)).answers;
  } catch (error) {
    const ownFault = error instanceof Fault && (error.status === 400 || error.status === 413);
    if (!ownFault) throw error;
    if (texts.length === 1) return [{ error: error.message }];
    const middle = texts.length >> 1;
    const first = await answered(texts.slice(0, middle), wanted, signal);
    return [...first, ...(await answered(texts.slice(middle), wanted, signal))];
  }
}

/**
 * Answer texts from a row on; `done` is given the answers of each batch. A Fault ends it, and it can be
 * gone on with from the row that was reached.
 */
export async function answerRows(texts, from, wanted, signal, done) {
  let begin = from;
  for (const end of batches(texts, from)) {
    const found = await answered(texts.slice(begin, end), wanted, signal);
    done(found);
    begin = end;
  }
}

/** What stands between several labels in one cell: nothing that a label holds. */
export function separator(classes) {
  return [";", "|", "¦"].find((mark) => !classes.some((name) => name.includes(mark))) ?? "␟";
}

/** A number in a cell: as many digits as say something. */
const digits = (value) => (value === undefined || value === null ? "" : String(Number(value.toPrecision(6))));

/**
 * The columns that answers add: their names, and what makes cells of an answer.
 * @param {{set: boolean, novelty: boolean}} ticked
 */
export function columns(card, ticked, taken, anyFault) {
  const between = separator(card.classes);
  const joined = (list) => (list ?? []).map(String).join(between);
  const made = card.multilabel
    ? [
        ["labels", (one) => joined(one.labels)],
        ["probability", (one) => joined((one.probability ?? []).map(digits))],
      ]
    : [
        ["label", (one) => (one.label === undefined ? "" : String(one.label))],
        ["probability", (one) => digits(one.probability)],
      ];
  if (ticked.set) made.push(["set", (one) => joined(one.set)]);
  if (ticked.novelty) made.push(["novelty_pvalue", (one) => digits(one.novelty_pvalue)]);
  if (anyFault) made.push(["error", (one) => one.error ?? ""]);
  const used = new Set(taken);
  // A column of that name that was there stays what it was.
  const names = made.map(([name]) => (used.has(name) ? `logitext_${name}` : name));
  return { names, cells: (one) => made.map(([, cell]) => cell(one)) };
}
