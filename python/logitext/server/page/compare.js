// Two models on the same text, side by side.

import { given } from "./api.js";
import { $, chip, el, own, refill, said, show } from "./dom.js";
import { percent, signed } from "./logits.js";

const FIRST = 10;

function half(side, one) {
  const labels = given(one.reply);
  const share = one.reply.labels ? null : one.reply.probabilities[labels[0]];
  const strongest = one.reply.explanation ? top(one.reply.explanation, labels[0]) : [];
  return el(
    "div",
    { class: `half ${side}` },
    el("h3", {}, el("i", { class: "dot", "aria-hidden": "true" }), own(one.card.name)),
    el(
      "p",
      { class: "half-decision" },
      ...(labels.length ? labels.flatMap((label, i) => [i ? ", " : "", own(label)]) : ["no label"]),
      share === null ? null : el("span", { class: "quiet", text: ` ${percent(share)}` }),
    ),
    strongest.length
      ? el(
          "ul",
          { class: "chips" },
          ...strongest.map(({ ngram, amount }) => chip(ngram, signed(amount))),
        )
      : null,
  );
}

function top(explanation, label) {
  if (label === undefined) return [];
  return explanation.ngrams
    .map(({ ngram, contributions }) => ({ ngram, amount: contributions[label] }))
    .filter(({ amount }) => Math.abs(amount) >= 0.005)
    .sort((a, b) => Math.abs(b.amount) - Math.abs(a.amount))
    .slice(0, 5);
}

function pair(name, one, other) {
  const bar = (side, card, share) =>
    share === undefined
      ? el("span", { class: `pair-bar ${side} absent`, text: "no such class" })
      : el(
          "span",
          { class: `pair-bar ${side}` },
          said(`${card.name}: `),
          el("i", { "aria-hidden": "true", style: { "--size": share.toFixed(4) } }),
          el("span", { class: "number", text: percent(share) }),
        );
  const of = (side) => (Object.hasOwn(side.reply.probabilities, name) ? side.reply.probabilities[name] : undefined);
  const bars = [bar("one", one.card, of(one)), bar("other", other.card, of(other))];
  return el("li", {}, own(name, { class: "pair-name" }), ...bars);
}

/** Draw both; each is {card, reply}. */
export function drawCompare(one, other) {
  show($("compare"), true);
  const [a, b] = [given(one.reply), given(other.reply)];
  const agree = a.length === b.length && a.every((label) => b.includes(label));
  $("compare").classList.toggle("disagree", !agree);
  refill($("verdict"), own(one.card.name), " and ", own(other.card.name), agree ? " agree" : " disagree");
  refill($("halves"), half("one", one), half("other", other));
  const names = [...new Set([...one.card.classes, ...other.card.classes])];
  const share = (name) => Math.max(one.reply.probabilities[name] ?? 0, other.reply.probabilities[name] ?? 0);
  const shown = names.length > 6 ? names.sort((x, y) => share(y) - share(x)).slice(0, FIRST) : names;
  refill($("pairs"), ...shown.map((name) => pair(name, one, other)));
}
