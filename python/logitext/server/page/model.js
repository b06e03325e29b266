// The third tab: what the model is, how good it was on rows it had not seen, what it goes by.

import { json, text } from "./api.js";
import { $, chip, count, el, own, refill, show } from "./dom.js";
import { grouped, percent, plain, signed } from "./logits.js";

const FIRST = 12;

let drawn = ""; // Fingerprint and name of what is shown.
let all = false;

const METHODS = {
  temperature: "one temperature for all classes",
  affine: "a temperature and a shift for all labels",
  vector: "a scale and a shift of each class",
  matrix: "a matrix that also moves logits between classes",
  quadratic: "a curve for all classes",
};

function fact(what, value, more) {
  const said = el("dd", {}, el("b", { text: value }), more ? el("span", { text: more }) : null);
  return el("div", { class: "fact" }, el("dt", { text: what }), said);
}

function facts(card) {
  const held = card.held_out;
  const found = [];
  if (held) {
    const on = `on ${count(held.rows, "row")} held out from training`;
    if (card.multilabel) {
      found.push(fact("Micro F1", plain(held.micro_f1, 3), on));
      found.push(fact("All labels right", percent(held.accuracy), "of the rows"));
    } else found.push(fact("Held-out accuracy", percent(held.accuracy), on));
    const before = held.log_loss_uncalibrated;
    const more = before === undefined ? "nats" : `nats; ${plain(before, 3)} before calibration`;
    found.push(fact("Log loss", plain(held.log_loss, 3), more));
  }
  found.push(fact("Trained on", grouped(card.rows ?? 0), "rows"));
  const [what, each] = card.multilabel ? ["Labels", "any number a text"] : ["Classes", "one a text"];
  found.push(fact(what, grouped(card.classes.length), each));
  found.push(fact("N-grams", grouped(card.ngrams), ngrams(card.features)));
  return found;
}

function ngrams({ word_ngrams: words, char_ngrams: chars }) {
  const range = ([from, to]) => (from === to ? `${from}` : `${from} to ${to}`);
  const parts = [];
  if (words) parts.push(`${range(words)} words`);
  if (chars) parts.push(`${range(chars)} characters`);
  return `runs of ${parts.join(", and of ")}`;
}

function calibration(card) {
  const { calibration: map } = card;
  if (!map) return "Not calibrated: probabilities are the softmax of the raw logits, and tend to be off.";
  const by = METHODS[map.method] ?? map.method;
  const at = map.method === "temperature" ? `, ${plain(map.temperature, 3)}` : "";
  const does = map.temperature < 1 ? " Below 1, it sharpens." : " Above 1, it flattens.";
  const flat = map.method === "temperature" ? does : "";
  return `Probabilities are calibrated by ${by}${at}, fitted on rows the model had not learned from.${flat}`;
}

function evidence(card) {
  if (card.multilabel) return "Each label is given from a threshold of its own on.";
  if (!card.evidence) {
    return "No rows were held out, so that it promises nothing: no label sets, no notice of strange text.";
  }
  const { rows, exact, stale } = card.evidence;
  const how = exact
    ? "exactly: nothing else was fitted on them"
    : "approximately: they also helped to choose how it was trained";
  const since = stale ? " It has learned since, so calibrate it anew." : "";
  return `Label sets and notices of strange text rest on ${count(rows, "held-out row")}, ${how}.${since}`;
}

function drawCard(card, strongest) {
  refill($("model-name"), own(card.name));
  refill($("facts"), ...facts(card));
  $("model-calibration").textContent = calibration(card);
  $("model-evidence").textContent = evidence(card);
  $("model-made").textContent = `Fingerprint ${card.fingerprint}, written by Logitext ${card.library_version}.`;
  refill($("warnings"), ...card.warnings.map((words) => el("li", {}, own(words))));
  show($("warnings-box"), card.warnings.length > 0);
  drawStrongest(card, strongest);
}

function drawStrongest(card, strongest) {
  const names = card.classes.filter((name) => Object.hasOwn(strongest, name));
  const wanted = $("strongest-find").value.trim().toLowerCase();
  const matching = wanted ? names.filter((name) => name.toLowerCase().includes(wanted)) : names;
  const shown = all ? matching : matching.slice(0, FIRST);
  refill(
    $("by-class"),
    ...shown.map((name) =>
      el(
        "li",
        {},
        el("h3", {}, own(name)),
        el(
          "ul",
          { class: "chips" },
          ...strongest[name].map(([ngram, block, amount]) =>
            chip(ngram, signed(amount), block === "words" ? "word" : "characters"),
          ),
          strongest[name].length ? null : el("li", { class: "quiet", text: "none" }),
        ),
      ),
    ),
  );
  show($("find-row"), names.length > FIRST);
  show($("by-class-all"), !all && matching.length > shown.length);
  $("by-class-all").textContent = `Show all ${matching.length}`;
  $("by-class-none").textContent = matching.length ? "" : "No class has that in its name.";
  const cut = names.length < card.classes.length;
  $("by-class-cut").textContent = cut ? `Of ${grouped(card.classes.length)} classes the first ${names.length} are listed.` : "";
  $("strongest-find").oninput = () => drawStrongest(card, strongest);
  $("by-class-all").onclick = () => {
    all = true;
    drawStrongest(card, strongest);
  };
}

async function drawReport(card, current) {
  const none = $("report-none");
  show($("report"), false);
  $("report").removeAttribute("srcdoc");
  if (!card.report) {
    show(none, true);
    refill(
      none,
      "This model was served without a report. One is written from labelled rows the model has not seen: ",
      el("code", { text: "logitext report MODEL test.csv -o report.html" }),
      ", and shown here by ",
      el("code", { text: "logitext serve MODEL --report report.html" }),
      ".",
    );
    return;
  }
  none.textContent = "The report is on its way.";
  show(none, true);
  const page = await text(`/models/${encodeURIComponent(card.name)}/report`);
  if (!current()) return;
  // In a frame without any rights: no script of it runs, and it has no origin.
  $("report").srcdoc = page;
  show($("report"), true);
  show(none, false);
}

/** Show a model, unless it is shown already. */
export async function showModel(card) {
  const key = `${card.name} ${card.fingerprint}`;
  if (drawn === key) return;
  drawn = key;
  all = false;
  $("strongest-find").value = "";
  const current = () => drawn === key;
  show($("model-fault"), false);
  try {
    const { strongest } = await json(`/models/${encodeURIComponent(card.name)}`);
    if (!current()) return;
    drawCard(card, strongest);
    show($("model-body"), true);
    await drawReport(card, current);
  } catch (error) {
    if (!current()) return;
    drawn = "";
    $("model-fault").textContent = `${error.message} Choose the tab again to try once more.`;
    show($("model-fault"), true);
    show($("report-none"), false);
  }
}
