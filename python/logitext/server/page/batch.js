// The second tab: a CSV file in, the same with answers out.

import { Fault } from "./api.js";
import { guessColumn, hasNames, parse, write } from "./csv.js";
import { $, count, el, own, refill, show, visible } from "./dom.js";
import { grouped, percent } from "./logits.js";
import { answerRows, columns } from "./rows.js";

const MOST_BYTES = 300_000_000;
const PREVIEW = 6;

let card = null;
let file = null; // {name, table, warning}
let controller = null;
let answers = [];
let asked = null; // What the answers at hand were asked with: changing it begins anew.
let link = "";

const named = () => $("names").checked;
const body = () => file.table.rows.slice(named() ? 1 : 0);
const column = () => Number($("column").value);

// -- reading --------------------------------------------------------------------

/** Bytes as text: UTF-8, what a byte order mark says, or else what old spreadsheets write. */
export function decoded(bytes) {
  const head = new Uint8Array(bytes.slice(0, 2));
  if (head[0] === 0xff && head[1] === 0xfe) return { text: new TextDecoder("utf-16le").decode(bytes), warning: "" };
  if (head[0] === 0xfe && head[1] === 0xff) return { text: new TextDecoder("utf-16be").decode(bytes), warning: "" };
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), warning: "" };
  } catch {
    const text = new TextDecoder("windows-1252").decode(bytes);
    return { text, warning: "The file is not UTF-8; it was read as Windows-1252. Look whether accents are right." };
  }
}

/** Take a file, if it can be read as a table. */
export async function takeFile(given) {
  stop();
  forget();
  tell("");
  try {
    if (given.size > MOST_BYTES) {
      throw new Fault(`${given.name} is over 300 MB, too large for the page: use logitext predict on a terminal.`);
    }
    const { text, warning } = decoded(await given.arrayBuffer());
    if (text.includes("\0")) throw new Fault(`${given.name} is not text: save the table as CSV first.`);
    const table = parse(text);
    if (!table.rows.length) throw new Fault(`${given.name} has no rows.`);
    const quote = table.open ? `The quote opened in line ${table.open} is never closed: what follows it is one cell. ` : "";
    file = { name: given.name, table, warning: quote + warning };
  } catch (error) {
    file = null;
    show($("batch-body"), false);
    tell(error instanceof Fault ? error.message : `${given.name} could not be read: ${error.message}`);
    return;
  }
  $("names").checked = hasNames(file.table.rows);
  listColumns();
  show($("batch-body"), true);
  drawFile();
}

function listColumns() {
  const { rows } = file.table;
  const names = rows[0].map((name, k) => (named() && name.trim() ? visible(name) : `column ${k + 1}`));
  refill($("column"), ...names.map((name, k) => el("option", { value: k, text: name })));
  $("column").value = String(guessColumn(rows, named()));
}

function drawFile() {
  const { name, table, warning } = file;
  const between = { ",": "commas", ";": "semicolons", "\t": "tabs" }[table.delimiter];
  const width = table.rows[0].length;
  const size = `: ${count(body().length, "row")}, ${count(width, "column")}${width > 1 ? ` between ${between}` : ""}.`;
  refill($("file-said"), own(name, { class: "strong" }), size);
  $("file-warning").textContent = warning;
  show($("file-warning"), warning !== "");
  $("start").disabled = body().length === 0;
  drawPreview();
  drawOptions();
}

function drawOptions() {
  const promised = Boolean(card?.evidence) && !card.multilabel;
  for (const id of ["want-set", "want-novelty"]) {
    $(id).disabled = !promised;
    if (!promised) $(id).checked = false;
  }
  $("promise-why").textContent = promised ? "" : "This model cannot tell label sets or strangeness.";
  show($("promise-why"), !promised);
}

function drawPreview() {
  const made = answers.length ? added() : null;
  const rows = body().slice(0, PREVIEW);
  const width = Math.max(...file.table.rows.slice(0, PREVIEW + 1).map((row) => row.length));
  const head = Array.from({ length: width }, (_, k) => (named() ? (file.table.rows[0][k] ?? "") : `column ${k + 1}`));
  const cut = (text) => (text.length > 240 ? `${text.slice(0, 240)}…` : text);
  const cell = (text, k) => el("td", { class: k === column() ? "chosen" : null }, own(cut(text)));
  refill(
    $("preview-head"),
    ...head.map((name, k) => el("th", { scope: "col", class: k === column() ? "chosen" : null }, own(cut(name)))),
    ...(made ? made.names.map((name) => el("th", { scope: "col", class: "new", text: name })) : []),
  );
  refill(
    $("preview-rows"),
    ...rows.map((row, i) =>
      el(
        "tr",
        {},
        ...head.map((_, k) => cell(row[k] ?? "", k)),
        ...(made ? cellsOf(made, i) : []).map((text) => el("td", { class: "new" }, own(text))),
      ),
    ),
  );
  const rest = body().length - rows.length;
  $("preview-rest").textContent = rest > 0 ? `and ${count(rest, "more row")}` : "";
}

/** The new cells of a row, empty as long as it is not answered. */
function cellsOf(made, i) {
  return answers[i] ? made.cells(answers[i]) : made.names.map(() => "");
}

// -- answering ------------------------------------------------------------------

function added() {
  const taken = named() ? file.table.rows[0] : [];
  return columns(asked.card, asked.ticked, taken, answers.some((one) => one.error));
}

async function start() {
  if (controller) return;
  const texts = body().map((row) => row[column()] ?? "");
  if (!answers.length) {
    const ticked = { set: $("want-set").checked, novelty: $("want-novelty").checked };
    const wanted = { model: card.name };
    if (ticked.set) wanted.coverage = Number($("coverage").value) / 100;
    if (ticked.novelty) wanted.novelty = true;
    asked = { card, ticked, wanted };
  }
  tell("");
  show($("result"), false);
  controller = new AbortController();
  const mine = controller;
  busy(true);
  try {
    await answerRows(texts, answers.length, asked.wanted, mine.signal, (found) => {
      answers.push(...found);
      progress(texts.length);
    });
  } catch (error) {
    if (controller !== mine) return; // Another file was taken.
    if (error.name !== "AbortError") {
      const done = `${count(answers.length, "row")} of ${grouped(texts.length)}`;
      tell(`${error.message} ${done} are answered and kept: go on when you like.`);
    }
  }
  if (controller !== mine) return;
  controller = null;
  busy(false);
  finish(texts.length);
}

function busy(is) {
  show($("progress-row"), is);
  show($("start"), !is);
  for (const id of ["column", "names", "want-set", "want-novelty"]) $(id).disabled = is;
  if (is) {
    progress(body().length);
    $("cancel").focus();
  } else drawOptions();
}

function progress(all) {
  $("progress").max = all;
  $("progress").value = answers.length;
  $("progress-said").textContent = `${grouped(answers.length)} of ${count(all, "row")}`;
}

function finish(all) {
  drawPreview();
  const whole = answers.length === all;
  $("start").textContent = answers.length && !whole ? "Go on" : "Answer all rows";
  show($("start"), !whole || all === 0);
  if (!answers.length) return;
  const failed = answers.filter((one) => one.error).length;
  const made = added();
  const { rows, delimiter, newline, bom } = file.table;
  const width = Math.max(...rows.map((row) => row.length));
  const padded = (row) => (row.length < width ? [...row, ...new Array(width - row.length).fill("")] : row);
  const out = body().map((row, i) => [...padded(row), ...cellsOf(made, i)]);
  if (named()) out.unshift([...padded(rows[0]), ...made.names]);
  URL.revokeObjectURL(link);
  link = URL.createObjectURL(new Blob(write(out, { delimiter, newline, bom }), { type: "text/csv;charset=utf-8" }));
  $("download").href = link;
  $("download").download = `${file.name.replace(/\.[^.]*$/, "")}.answers.csv`;
  $("download").textContent = `Download ${$("download").download}`;
  const answered = whole
    ? `${count(all, "row")} answered`
    : `${grouped(answers.length)} of ${count(all, "row")} answered; the others have empty cells`;
  $("result-said").textContent = answered + (failed ? `, ${grouped(failed)} of them not: a column says why.` : ".");
  drawCounts();
  show($("result"), true);
  // What is new stands at the far end of a wide table.
  $("preview").scrollLeft = $("preview").scrollWidth;
  if (whole) $("download").focus();
}

/** How often each label was given. */
function drawCounts() {
  const counts = new Map();
  for (const one of answers) {
    for (const label of one.labels ?? (one.label === undefined ? [] : [one.label])) {
      counts.set(String(label), (counts.get(String(label)) ?? 0) + 1);
    }
  }
  const order = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 10);
  refill(
    $("counts"),
    ...order.map(([label, n]) =>
      el(
        "li",
        {},
        own(label, { class: "pair-name" }),
        el(
          "span",
          { class: "pair-bar one" },
          el("i", { "aria-hidden": "true", style: { "--size": (n / answers.length).toFixed(4) } }),
          el("span", { class: "number", text: `${grouped(n)} · ${percent(n / answers.length)}` }),
        ),
      ),
    ),
  );
}

function tell(sentence) {
  $("batch-fault").textContent = sentence;
  show($("batch-fault"), sentence !== "");
}

function stop() {
  controller?.abort();
  controller = null;
  if (file) busy(false);
}

/** What was answered no longer fits what is wanted. */
function forget() {
  answers = [];
  asked = null;
  show($("result"), false);
  show($("start"), true);
  $("start").textContent = "Answer all rows";
}

/** Another model is chosen: answers of the one before stay until a new start. */
export function batchModel(chosen) {
  const other = card && card.name !== chosen.name;
  card = chosen;
  if (!file) return;
  if (other) {
    stop();
    forget();
    tell("");
  }
  drawFile();
}

/** Bring the tab to life. */
export function liveBatch() {
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) takeFile($("file").files[0]);
    $("file").value = ""; // So that the same file can be chosen again.
  });
  $("column").addEventListener("change", () => {
    forget();
    drawPreview();
  });
  $("names").addEventListener("change", () => {
    forget();
    listColumns();
    drawFile();
  });
  for (const id of ["want-set", "want-novelty"]) {
    $(id).addEventListener("change", () => {
      forget();
      drawPreview();
    });
  }
  $("start").addEventListener("click", start);
  $("cancel").addEventListener("click", () => {
    controller?.abort();
    $("start").focus();
  });
}
