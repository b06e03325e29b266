// The first tab: a text, asked as it is typed, and everything drawn from the answer.

import { allowAsking, Fault, given, predict } from "./api.js";
import { drawSigmoids, drawSoftmax } from "./arithmetic.js";
import { drawBars, liveBars, noBars } from "./bars.js";
import { $, el, own, refill, settled, show } from "./dom.js";
import { percent, plain, sigmoid, softmax } from "./logits.js";
import { drawNgrams, liveList, liveWords, noNgrams } from "./ngrams.js";
import { drawNovelty, drawSet, limitCoverage, noSets } from "./sets.js";

const TYPING = 60; // Milliseconds without a key before the text is asked.
const RETRY = 3000;
/** Of an explanation each n-gram has a number for each class: what is longer is explained on demand. */
const MOST_NUMBERS = 40000;

const SEVERAL =
  "This model may give a text several labels, each by a threshold of its own; " +
  "sets and strangeness are for models of one label a text.";
const NOTHING_HELD_OUT =
  "No rows were held out when this model was trained, so that nothing can be promised of its answers.";

const state = {
  card: null,
  other: null,
  chosen: null, // The class picked by hand; else the decision.
  temperature: null, // null: calibrated.
  coverage: 0.9,
  all: false,
  patient: "", // The long text whose explanation was asked for.
  answer: null, // What is drawn: {text, card, reply, fault}.
};
let asked = 0;
let controller = null;
let retry = 0;
let reload = () => {}; // Asks which models there are, and then again for what is typed.

const text = () => $("text").value;
const several = () => state.card.multilabel;

// -- asking ---------------------------------------------------------------------

/** Whether a text is short enough to be explained as it is typed. */
const brief = (card, said) => said === state.patient || said.length * (card.classes.length + 3) <= MOST_NUMBERS;

async function askOne(card, said, signal, main) {
  const question = { text: said, model: card.name, logits: true, probabilities: true };
  const known = main && state.answer?.text === said && state.answer.card === card ? state.answer.reply : null;
  if (brief(card, said) && !known?.explanation) question.explain = true;
  if (main && card.evidence) Object.assign(question, { coverage: state.coverage, novelty: true });
  let fault = "";
  let reply;
  try {
    reply = await predict(question, signal);
  } catch (error) {
    // Only what is promised can be impossible: the answer itself is asked for without it.
    if (!(error instanceof Fault) || error.status !== 422 || question.coverage === undefined) throw error;
    fault = error.message;
    delete question.coverage;
    reply = await predict(question, signal);
  }
  if (known && known.fingerprint === reply.fingerprint) reply.explanation ??= known.explanation;
  return { text: said, card, reply, fault };
}

/** Ask for what is typed now. What was asked before and has not come is dropped. */
export async function ask() {
  if (!state.card) return reload();
  clearTimeout(retry);
  const turn = ++asked;
  controller?.abort();
  controller = new AbortController();
  const { signal } = controller;
  const said = text();
  try {
    const [one, other, compare] = await Promise.all([
      askOne(state.card, said, signal, true),
      state.other ? askOne(state.other, said, signal, false) : null,
      state.other ? import("./compare.js") : null,
    ]);
    if (turn !== asked) return;
    fine();
    const keep = state.answer?.text === said && state.answer.card === state.card;
    if (!keep) state.patient = state.patient === said ? said : "";
    state.answer = one;
    draw(keep);
    if (other) compare.drawCompare(one, other);
    else show($("compare"), false);
    if (one.reply.fingerprint !== state.card.fingerprint) reload();
  } catch (error) {
    if (turn !== asked || error.name === "AbortError") return;
    wrong(error);
  }
}

/** Something failed: say so by the input, keep everything, and try again. */
export function wrong(error) {
  if (!(error instanceof Fault)) console.error(error);
  const sentence = error instanceof Fault ? error.message : "The page made a mistake, which the console tells of.";
  const tokenless = error.status === 401;
  refill(
    $("fault"),
    el("span", { text: sentence }),
    tokenless
      ? el("button", { type: "button", class: "small", text: "Enter the token", on: { click: again } })
      : null,
  );
  show($("fault"), true);
  document.body.classList.add("stale");
  clearTimeout(retry);
  const passing = error.status === 0 || error.status >= 500;
  if (error instanceof Fault && passing) retry = setTimeout(ask, RETRY);
}

function again() {
  allowAsking();
  ask();
}

function fine() {
  show($("fault"), false);
  refill($("fault"));
  document.body.classList.remove("stale");
}

// -- drawing --------------------------------------------------------------------

const announce = settled((words) => {
  $("announced").textContent = words;
}, 600);

/** Draw all of an answer; `keep`: the text is the same as before. */
function draw(keep) {
  const { reply } = state.answer;
  const labels = given(reply);
  drawDecision(reply, labels);
  drawShares();
  drawColours(keep);
  if (several()) noSets(SEVERAL);
  else if (!state.card.evidence) noSets(NOTHING_HELD_OUT);
  else {
    drawSet(reply, state.coverage, state.card.evidence, state.answer.fault);
    drawNovelty(reply.novelty_pvalue);
  }
  performance.mark("logitext-answer");
}

function drawDecision(reply, labels) {
  const said = labels.length ? labels : ["no label"];
  const shares = several() ? reply.probability : [reply.probabilities[labels[0]]];
  refill($("decision"), ...said.flatMap((label, i) => [i ? el("span", { class: "quiet", text: ", " }) : null, own(label)]));
  const how = several()
    ? labels.length
      ? shares.map(percent).join(", ")
      : "no logit reaches its threshold"
    : percent(shares[0]);
  $("decision-share").textContent = how;
  $("decision-what").textContent = several() ? "" : state.card.calibration ? "calibrated probability" : "probability";
  announce(`${said.join(", ")}, ${how}`);
}

/** The class that n-grams are coloured for. */
function coloured() {
  const { reply } = state.answer;
  if (state.chosen !== null && state.card.classes.includes(state.chosen)) return state.chosen;
  const labels = given(reply);
  if (labels.length) return labels[0];
  const { thresholds } = reply.explanation ?? {};
  const above = (name) => reply.logits[name] - (thresholds?.[name] ?? 0);
  return state.card.classes.reduce((best, name) => (above(name) > above(best) ? name : best));
}

function drawShares() {
  const { reply } = state.answer;
  const { card, temperature } = state;
  const names = card.classes;
  const logits = names.map((name) => reply.logits[name]);
  const calibrated = names.map((name) => reply.probabilities[name]);
  const shares =
    temperature === null
      ? calibrated
      : several()
        ? logits.map((z) => sigmoid(z, temperature))
        : softmax(logits, temperature);
  const thresholds = reply.explanation?.thresholds;
  drawBars({
    names,
    logits,
    shares,
    thresholds: thresholds ? names.map((name) => thresholds[name]) : null,
    given: new Set(given(reply)),
    chosen: coloured(),
    all: state.all,
  });
  drawTemperature();
  if ($("arithmetic").open) drawArithmetic(names, logits, calibrated);
}

function drawArithmetic(names, logits, calibrated) {
  const { card, temperature } = state;
  const method = card.calibration?.method;
  const fitted = temperature ?? card.calibration?.temperature ?? 1;
  const at = `At temperature ${plain(fitted)}.`;
  if (several()) {
    const shift = temperature === null ? (card.calibration?.shift ?? 0) : 0;
    drawSigmoids(names, logits, fitted, shift, temperature === null ? "With this model’s calibration." : at);
  } else if (temperature !== null || !method || method === "temperature") {
    const found = method
      ? `At ${plain(fitted)}, the temperature that held-out rows gave.`
      : "At temperature 1: this model is not calibrated.";
    drawSoftmax(names, logits, fitted, temperature === null ? found : at);
  } else {
    // Softmax does not see what all logits share, so calibrated ones can be read off the probabilities.
    const most = Math.max(...calibrated);
    const relative = calibrated.map((share) => Math.log(share / most));
    const why = "With calibrated logits, each less the largest of them, which changes no share.";
    drawSoftmax(names, relative, 1, `${why} Move the temperature to see the raw ones.`);
  }
}

function drawTemperature() {
  const { temperature, card } = state;
  const calibrated = temperature === null;
  $("calibrated").setAttribute("aria-pressed", String(calibrated));
  const fitted = card.calibration?.temperature ?? 1;
  const value = calibrated ? fitted : temperature;
  if (calibrated) $("temperature").value = String(Math.log10(fitted));
  const method = card.calibration?.method ?? "none";
  const beside = { none: `T = ${plain(value)}`, temperature: `T = ${plain(value)}, calibrated` };
  const words = calibrated ? (beside[method] ?? "calibrated") : `T = ${plain(value)}`;
  $("calibrated").textContent = method === "none" ? "Back to 1" : "Calibrated";
  $("temperature-value").textContent = words;
  $("temperature").setAttribute("aria-valuetext", words);
  const origin =
    method === "none"
      ? "This model is not calibrated: these are the raw logits."
      : "Probabilities as they held on rows the model had not seen.";
  $("temperature-why").textContent = calibrated
    ? `${origin} Move the slider: shares sharpen or flatten, the decision stays.`
    : value < fitted
      ? "Sharper: every difference between logits counts for more. The decision stays."
      : "Flatter: every difference between logits counts for less. The decision stays.";
}

function drawColours(keep) {
  const { reply } = state.answer;
  if (reply.explanation) {
    drawNgrams(state.answer.text, state.card, reply.explanation, coloured(), keep);
    show($("explain-long"), false);
  } else {
    $("ngrams-class").replaceChildren(own(coloured()));
    noNgrams("This text is long, so that its n-grams are not shown while you type.");
    show($("explain-long"), true);
  }
}

// -- models ---------------------------------------------------------------------

/** Ask another model; or the same, read anew. */
export function useModel(card, other) {
  if (state.card?.name !== card.name) state.chosen = null;
  if (state.card?.fingerprint !== card.fingerprint || state.card?.name !== card.name) {
    noBars();
    state.all = false;
    state.answer = null;
    state.temperature = null;
  }
  state.card = card;
  state.other = other;
  if (card.evidence) limitCoverage(card.evidence);
  state.coverage = Number($("coverage").value) / 100;
  return ask();
}

/** Bring the tab to life; `onReload` asks for the models anew. */
export function liveReading(onReload) {
  reload = onReload;
  const typed = settled(ask, TYPING);
  $("text").addEventListener("input", () => {
    $("clear").disabled = text() === "";
    typed();
  });
  $("clear").addEventListener("click", () => {
    $("text").value = "";
    $("clear").disabled = true;
    $("text").focus();
    ask();
  });
  liveWords();
  liveList();
  liveBars((name) => {
    state.chosen = name;
    drawShares();
    drawColours(true);
  });
  $("temperature").addEventListener("input", () => {
    state.temperature = 10 ** Number($("temperature").value);
    if (state.answer) drawShares();
  });
  $("calibrated").addEventListener("click", () => {
    state.temperature = null;
    if (state.answer) drawShares();
  });
  $("arithmetic").addEventListener("toggle", () => state.answer && drawShares());
  $("classes-all").addEventListener("click", () => {
    state.all = !state.all;
    drawShares();
  });
  const covered = settled(ask, TYPING);
  $("coverage").addEventListener("input", () => {
    state.coverage = Number($("coverage").value) / 100;
    $("coverage-value").textContent = `${$("coverage").value}\u00a0%`;
    covered();
  });
  $("explain-long").addEventListener("click", () => {
    state.patient = text();
    ask();
  });
  addEventListener("online", ask);
}
