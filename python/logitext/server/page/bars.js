// Each class as a row: its logit left or right of zero, and beside it its share.

import { $, count, el, own, refill, said, show } from "./dom.js";
import { percent, plain, ranked } from "./logits.js";

const FEW = 6; // So many classes keep their places while one types: that is calmer than sorting.
const FIRST = 10;

let choose = () => {};
const rows = new Map(); // Of each class its row, kept so that bars move rather than jump.

/** Say what is to be done when a class is chosen. */
export function liveBars(chosen) {
  choose = chosen;
}

/** Forget the rows of another model. */
export function noBars() {
  rows.clear();
  $("classes").replaceChildren();
}

function row(name) {
  const known = rows.get(name);
  if (known) return known;
  const parts = {
    button: el("button", { class: "class-name", type: "button", "data-key": `class ${name}` }, own(name)),
    mark: said(""),
    bar: el("i", { class: "logit-bar" }),
    tick: el("i", { class: "tick" }),
    logit: el("span", { class: "number" }),
    fill: el("i", { class: "share-bar" }),
    share: el("span", { class: "number" }),
  };
  parts.button.title = name;
  parts.button.append(parts.mark);
  parts.button.addEventListener("click", () => choose(name));
  parts.li = el(
    "li",
    { class: "class-row" },
    parts.button,
    el("span", { class: "logit-track", "aria-hidden": "true" }, parts.bar, parts.tick),
    el("span", { class: "logit-number" }, said("logit "), parts.logit),
    el("span", { class: "share-track", "aria-hidden": "true" }, parts.fill),
    el("span", { class: "share-number" }, said("probability "), parts.share),
  );
  rows.set(name, parts);
  return parts;
}

/**
 * Draw the rows.
 * @param {{names: string[], logits: number[], shares: number[], thresholds: number[] | null,
 *   given: Set<string>, chosen: string, all: boolean}} what
 */
export function drawBars({ names, logits, shares, thresholds, given, chosen, all }) {
  let order = names.length > FEW ? ranked(logits) : names.map((_, k) => k);
  const shown = all ? order : order.slice(0, FIRST);
  // What is coloured for stays in sight, wherever it stands.
  const at = names.indexOf(chosen);
  if (at >= 0 && !shown.includes(at)) shown.push(at);
  const values = [...shown.map((k) => logits[k]), ...(thresholds ? shown.map((k) => thresholds[k]) : [])];
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const width = Math.max(high - low, 1e-6);
  // Zero never stands at the very edge, so that it is seen as zero.
  const zero = Math.min(Math.max(-low / width, 0.08), 0.92);
  const scale = Math.min(low < 0 ? zero / -low : Infinity, high > 0 ? (1 - zero) / high : Infinity);
  $("classes").style.setProperty("--zero", zero.toFixed(4));
  const items = shown.map((k) => {
    const parts = row(names[k]);
    const z = logits[k];
    const size = Math.abs(z) * scale;
    parts.li.classList.toggle("given", given.has(names[k]));
    parts.button.setAttribute("aria-pressed", String(names[k] === chosen));
    parts.mark.textContent = given.has(names[k]) ? ", decided" : "";
    parts.bar.className = `logit-bar ${z < 0 ? "against" : "for"}`;
    parts.bar.style.setProperty("--from", (z < 0 ? zero - size : zero).toFixed(5));
    parts.bar.style.setProperty("--size", size.toFixed(5));
    parts.tick.hidden = !thresholds;
    if (thresholds) {
      parts.tick.style.setProperty("--from", (zero + thresholds[k] * scale).toFixed(5));
      parts.tick.title = `threshold ${plain(thresholds[k])}`;
    }
    parts.logit.textContent = plain(z);
    parts.fill.style.setProperty("--size", shares[k].toFixed(5));
    parts.share.textContent = percent(shares[k]);
    return parts.li;
  });
  const list = $("classes");
  const same = list.children.length === items.length && items.every((item, i) => list.children[i] === item);
  if (!same) refill(list, ...items);
  show($("classes-all"), names.length > FIRST);
  $("classes-all").textContent = all ? `Show the first ${FIRST}` : `Show all ${count(names.length, "class", "classes")}`;
  $("classes-all").setAttribute("aria-expanded", String(all));
}
