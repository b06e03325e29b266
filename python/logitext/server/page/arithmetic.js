// The sum of exponentials, worked out with the logits at hand.

import { $, el, own, refill } from "./dom.js";
import { percent, plain, power, ranked, short, sigmoid, worked } from "./logits.js";

const FIRST = 10;

/** A share as in the founding example; never 0.00 of what is not. */
const hundredths = (share) => (share > 0 && share < 0.005 ? "<\u00a00.01" : `=\u00a0${share.toFixed(2)}`);

/** A power as people write it: e with its exponent raised. */
function raised(exponent) {
  return el("span", { class: "power" }, "e", el("sup", { text: exponent }));
}

function line(name, left, right, share, top) {
  return el(
    "tr",
    { class: top ? "given" : null },
    el("th", { scope: "row" }, own(name)),
    el("td", { class: "n" }, left),
    el("td", { class: "n", text: `= ${right}` }),
    el("td", { class: "n", text: share }),
  );
}

/**
 * Of one label a text.
 * @param {number[]} logits at the temperature; `why` says where they come from.
 */
export function drawSoftmax(names, logits, temperature, why) {
  const { rows, sum } = worked(logits, temperature);
  const order = ranked(logits);
  const shown = names.length > FIRST ? order.slice(0, FIRST) : names.map((_, k) => k);
  const lines = shown.map((k) => {
    const { exponent, power, share } = rows[k];
    return line(names[k], raised(exponent), power, `${power} / ${sum} ${hundredths(share)}`, k === order[0]);
  });
  const rest = order.slice(FIRST);
  if (names.length > FIRST) {
    const share = rest.reduce((total, k) => total + rows[k].share, 0);
    lines.push(
      el(
        "tr",
        {},
        el("th", { scope: "row", text: `the other ${rest.length}` }),
        el("td"),
        el("td"),
        el("td", { class: "n", text: hundredths(share) }),
      ),
    );
  }
  const total = el(
    "tr",
    { class: "total" },
    el("th", { scope: "row", text: "sum" }),
    el("td"),
    el("td", { class: "n", text: `= ${sum}` }),
    el("td", { class: "n", text: "=\u00a01.00" }),
  );
  refill($("arithmetic-rows"), ...lines, total);
  const best = rows[order[0]];
  $("arithmetic-why").textContent = why;
  refill(
    $("arithmetic-said"),
    "Each logit becomes a power of e, so that none is negative and differences become ratios. ",
    "Divided by their sum they are shares: ",
    own(names[order[0]]),
    ` has ${best.power} of ${sum}, which is ${percent(best.share)}. `,
    "The decision was made before: it is the largest logit.",
  );
}

/** Of several labels a text: each by itself. `shift` is what calibration adds. */
export function drawSigmoids(names, logits, temperature, shift, why) {
  const order = ranked(logits);
  const shown = names.length > FIRST ? order.slice(0, FIRST) : names.map((_, k) => k);
  const lines = shown.map((k) => {
    const x = logits[k] / temperature + shift;
    const value = power(-x);
    return line(names[k], raised(short(-x)), value, `1 / (1 + ${value}) ${hundredths(sigmoid(x))}`, false);
  });
  refill($("arithmetic-rows"), ...lines);
  const added = shift ? ` ${shift < 0 ? "−" : "+"} ${plain(Math.abs(shift))}` : "";
  const moved = `logit / ${short(temperature)}${added}`;
  $("arithmetic-why").textContent = why;
  refill(
    $("arithmetic-said"),
    `Each label is decided by itself. With x = ${moved}, its probability is 1 / (1 + e to the power of −x); `,
    "it is given where its logit reaches its threshold.",
  );
}
