// What may be promised: the labels of a set, and whether a text is unlike the training text.

import { $, count, el, own, refill, show } from "./dom.js";
import { grouped } from "./logits.js";

/** From how rare a novelty on a text is called unlike. */
export const UNLIKE = 0.05;

const hundredths = (coverage) => Math.round(coverage * 100);

/** The largest coverage some rows can promise, and the slider. */
export function limitCoverage(evidence) {
  const slider = $("coverage");
  const most = Math.floor((100 * evidence.rows) / (evidence.rows + 1));
  slider.max = String(Math.max(51, Math.min(99, most)));
}

/** Hide what cannot be promised, and say why. */
export function noSets(why) {
  show($("set-body"), false);
  show($("set-none"), true);
  $("set-none").textContent = why;
  show($("unlike"), false);
}

/** Draw the set. `fault`: why there is none at this coverage, or "". */
export function drawSet(reply, coverage, evidence, fault) {
  show($("set-body"), true);
  show($("set-none"), false);
  const share = hundredths(coverage);
  $("coverage-value").textContent = `${share}\u00a0%`;
  $("coverage").setAttribute("aria-valuetext", `${share} percent`);
  const labels = (reply.set ?? []).map(String);
  show($("set"), !fault);
  refill(
    $("set"),
    ...labels.slice(0, 60).map((label) => {
      const decided = label === String(reply.label);
      return el("li", { class: decided ? "label decided" : "label" }, own(label));
    }),
    labels.length > 60 ? el("li", { class: "quiet", text: `and ${labels.length - 60} more` }) : null,
    labels.length === 0 ? el("li", { class: "label empty", text: "none" }) : null,
  );
  const about = evidence.exact ? "" : "about ";
  const stale = evidence.stale ? " The model has learned since, so that these rows no longer speak for it." : "";
  const promise =
    `Of texts like those of the training, ${about}${share} in 100 have their true label in their set, ` +
    `as counted on ${count(evidence.rows, "held-out row")}.`;
  const empty = " Here no label fits as well as true labels usually do; at a higher coverage some may.";
  $("set-why").textContent = fault || promise + (labels.length ? "" : empty) + stale;
}

function often(pvalue) {
  if (pvalue < 0.001) return "fewer than one in 1,000";
  return pvalue < 0.0095 ? `about ${grouped(pvalue * 1000)} in 1,000` : `about ${grouped(pvalue * 100)} in 100`;
}

/** Say it if a text is unlike the training text. */
export function drawNovelty(pvalue) {
  const unlike = pvalue !== undefined && pvalue !== null && pvalue <= UNLIKE;
  show($("unlike"), unlike);
  if (!unlike) return;
  $("unlike-how").textContent = `Of texts like those, ${often(pvalue)} would look as strange. Take the answer with care.`;
}
