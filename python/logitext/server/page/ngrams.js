// What each word and each n-gram adds to one class: the text in colours, the sum, the strongest.

import { $, count, el, gram, own, refill, show, visible } from "./dom.js";
import { plain, rounded, signed } from "./logits.js";
import { lay, spread } from "./words.js";

const MOST_PARTS = 1200;
const FIRST = 10;

let view = null; // What is drawn: text, card, explanation, laid, name of the class.
let pinned = null; // The part whose n-grams alone are listed.
let all = false; // Whether all n-grams are listed.

/** Draw it for one class. `keep`: the text is the same, so what was chosen in it stays chosen. */
export function drawNgrams(text, card, explanation, name, keep) {
  if (!keep) [pinned, all] = [null, false];
  const laid =
    keep && view?.explanation === explanation
      ? view.laid
      : lay(text, card.features, explanation.ngrams, explanation.unknown);
  view = { text, card, explanation, laid, name };
  const amounts = explanation.ngrams.map((one) => one.contributions[name]);
  view.amounts = amounts;
  view.spread = spread(laid, explanation.ngrams, amounts);
  $("ngrams-class").replaceChildren(own(name));
  drawText();
  drawSum();
  drawList();
}

/** Hide what the words did, and say why. */
export function noNgrams(why) {
  view = null;
  refill($("words"));
  refill($("sum"));
  refill($("strongest"));
  refill($("unknown"));
  show($("ngrams-body"), false);
  $("ngrams-none").textContent = why;
  show($("ngrams-none"), true);
}

// -- the text -------------------------------------------------------------------

function drawText() {
  const { laid } = view;
  const { sums } = view.spread;
  show($("ngrams-body"), true);
  show($("ngrams-none"), false);
  const most = Math.max(1e-9, ...sums.map(Math.abs));
  const shown = laid.parts.slice(0, MOST_PARTS);
  let first = true;
  const made = shown.map((part, at) => {
    if (part.token === null) return document.createTextNode(part.text);
    const amount = sums[at];
    const weight = Math.abs(amount) / most;
    const faint = weight < 0.04;
    const how = laid.unheard[at] ? "none" : faint ? "faint" : amount > 0 ? "for" : "against";
    const words = laid.unheard[at] ? "unknown to the model" : `adds ${signed(amount)}`;
    const word = el("span", {
      class: `word ${how}`,
      role: "button",
      tabindex: first ? 0 : -1,
      "aria-pressed": String(pinned === at),
      "aria-label": `${visible(part.text)}: ${words}`,
      "data-key": `word${at}`,
      "data-at": at,
      style: { "--weight": weight.toFixed(3) },
      text: visible(part.text),
    });
    first = false;
    return word;
  });
  if (shown.length < laid.parts.length) {
    made.push(el("span", { class: "quiet", text: ` … ${count(laid.parts.length - shown.length, "more piece")}` }));
  }
  hideTip();
  refill($("words"), ...made);
}

function tipOf(at) {
  const { sums, words, chars } = view.spread;
  const part = view.laid.parts[at];
  if (view.laid.unheard[at]) {
    return [own(part.text, { class: "gram" }), el("span", { text: "The model has not met this, nor any part of it." })];
  }
  const lines = [el("b", { text: signed(sums[at]) }), document.createTextNode(" to "), own(view.name)];
  const split =
    view.card.features.char_ngrams && view.card.features.word_ngrams
      ? el("span", { text: `as a word ${signed(words[at])}, by its characters ${signed(chars[at])}` })
      : null;
  return [own(part.text, { class: "gram" }), el("span", {}, ...lines), split];
}

function showTip(word) {
  const tip = $("tip");
  tip.replaceChildren(...tipOf(Number(word.dataset.at)).filter(Boolean));
  show(tip, true);
  const box = word.getClientRects()[0] ?? word.getBoundingClientRect();
  const own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const above = box.top - own.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}

function hideTip() {
  show($("tip"), false);
}

/** Words answer to the pointer and the keyboard: one stop for Tab, arrows among them. */
export function liveWords() {
  const words = $("words");
  const near = (event) => event.target.closest?.(".word");
  words.addEventListener("pointerover", (event) => (near(event) ? showTip(near(event)) : hideTip()));
  words.addEventListener("pointerleave", hideTip);
  words.addEventListener("focusin", (event) => {
    const word = near(event);
    if (!word) return;
    for (const one of words.querySelectorAll(".word[tabindex='0']")) one.tabIndex = -1;
    word.tabIndex = 0;
    showTip(word);
  });
  words.addEventListener("focusout", hideTip);
  words.addEventListener("click", (event) => near(event) && pin(near(event)));
  words.addEventListener("keydown", (event) => {
    const word = near(event);
    if (!word) return;
    const list = [...words.querySelectorAll(".word")];
    const at = list.indexOf(word);
    const onward = getComputedStyle(words).direction === "rtl" ? -1 : 1;
    const step = { ArrowRight: onward, ArrowLeft: -onward, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) list[Math.min(Math.max(at + step, 0), list.length - 1)].focus();
    else if (event.key === "Home") list[0].focus();
    else if (event.key === "End") list.at(-1).focus();
    else if (event.key === "Enter" || event.key === " ") pin(word);
    else if (event.key === "Escape") hideTip();
    else return;
    event.preventDefault();
  });
  addEventListener("scroll", hideTip, { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
}

function pin(word) {
  const at = Number(word.dataset.at);
  pinned = pinned === at ? null : at;
  all = false;
  for (const one of $("words").querySelectorAll(".word")) {
    one.setAttribute("aria-pressed", String(Number(one.dataset.at) === pinned));
  }
  drawList();
}

// -- the sum --------------------------------------------------------------------

function drawSum() {
  const { explanation, amounts, name } = view;
  const of = (block) =>
    explanation.ngrams.reduce((sum, one, i) => (one.block === block ? sum + amounts[i] : sum), 0);
  const has = new Set(explanation.ngrams.map((one) => one.block));
  const terms = [["bias", explanation.bias[name]]];
  if (has.has("words")) terms.push(["words", of("words")]);
  if (has.has("chars")) terms.push(["characters", of("chars")]);
  const logit = explanation.logits[name];
  const shown = rounded(terms.map(([, value]) => value), logit);
  const made = terms.flatMap(([what, value], i) => [
    i ? el("span", { class: "sign", text: shown[i] < 0 ? "−" : "+" }) : null,
    el(
      "span",
      { class: `term ${value < 0 ? "against" : "for"}` },
      el("b", { text: i ? Math.abs(shown[i]).toFixed(2) : plain(shown[i]) }),
      el("span", { text: what }),
    ),
  ]);
  const total = el("span", { class: "term total" }, el("b", { text: plain(logit) }), el("span", { text: "logit" }));
  made.push(el("span", { class: "result-of" }, el("span", { class: "sign", text: "=" }), total));
  refill($("sum"), ...made);
}

// -- the strongest --------------------------------------------------------------

function drawList() {
  const { explanation, amounts, laid } = view;
  const touched = (i) => pinned === null || laid.of[i].some((parts) => parts.includes(pinned));
  const order = amounts
    .map((_, i) => i)
    .filter(touched)
    .sort((a, b) => Math.abs(amounts[b]) - Math.abs(amounts[a]) || a - b);
  const most = Math.max(1e-9, ...amounts.map(Math.abs));
  const shown = all ? order.slice(0, 500) : order.slice(0, FIRST);
  const items = shown.map((i) => {
    const amount = amounts[i];
    const { ngram, block } = explanation.ngrams[i];
    return el(
      "li",
      { class: amount < 0 ? "against" : "for" },
      gram(ngram),
      el("span", { class: "kind", text: block === "words" ? "word" : "characters" }),
      el("span", {
        class: "two-sided",
        "aria-hidden": "true",
        style: { "--size": (Math.abs(amount) / most).toFixed(4) },
      }),
      el("span", { class: "number", text: signed(amount, 3) }),
    );
  });
  refill($("strongest"), ...items);
  $("strongest-title").replaceChildren(
    ...(pinned === null
      ? [document.createTextNode("The strongest n-grams")]
      : [document.createTextNode("N-grams in "), own(laid.parts[pinned].text)]),
  );
  show($("unpin"), pinned !== null);
  show($("strongest-all"), !all && order.length > shown.length);
  $("strongest-all").textContent = `Show all ${order.length.toLocaleString("en")}`;
  $("strongest-none").textContent = order.length
    ? ""
    : "No n-gram of this text is known to the model: the bias alone decides.";
  show($("strongest-none"), order.length === 0);
  drawUnknown();
}

function drawUnknown() {
  const { unknown } = view.explanation;
  const shown = unknown.slice(0, 40);
  show($("unknown-fold"), unknown.length > 0);
  $("unknown-count").textContent = `${count(unknown.length, "n-gram")} the model has not met`;
  refill(
    $("unknown"),
    ...shown.map((ngram) => el("li", {}, gram(ngram))),
    unknown.length > shown.length
      ? el("li", { class: "quiet", text: `and ${(unknown.length - shown.length).toLocaleString("en")} more` })
      : null,
  );
}

/** The two buttons of the list. */
export function liveList() {
  $("strongest-all").addEventListener("click", () => {
    all = true;
    drawList();
    $("strongest").focus();
  });
  $("unpin").addEventListener("click", () => {
    pinned = null;
    for (const one of $("words").querySelectorAll(".word")) one.setAttribute("aria-pressed", "false");
    drawList();
    $("words").querySelector(".word[tabindex='0']")?.focus();
  });
}

