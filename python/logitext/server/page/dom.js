// Elements, made of text alone: nothing here or elsewhere takes HTML from data.

/** Make an element. Keys of `how`: class, text, on (listeners), style (custom properties), else attributes. */
export function el(tag, how = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(how)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else if (key === "on") for (const [name, act] of Object.entries(value)) made.addEventListener(name, act);
    else if (key === "style") for (const [name, is] of Object.entries(value)) made.style.setProperty(name, is);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An n-gram; the ends of words, which character n-grams have as spaces, are shown as dots. */
export function gram(ngram) {
  return own(ngram.replace(/^ | $/g, "·"), { class: "gram" });
}

/** An n-gram and what it adds, as a chip. */
export function chip(ngram, amount, kind) {
  const how = { class: `chip ${amount.startsWith("−") ? "against" : "for"}`, title: kind };
  return el("li", how, gram(ngram), " ", el("span", { class: "number", text: amount }));
}

export const $ = (id) => document.getElementById(id);

/** A label or a text with a direction of its own, which does not reach what is around it. */
export function own(text, how = {}) {
  const made = el("bdi", { dir: "auto", ...how });
  // Names of classes are often long words_joined_so: they may break after such a sign.
  visible(text)
    .split(/(?<=[_/\-.])(?=\w)/)
    .forEach((part, i) => made.append(...(i ? [document.createElement("wbr"), part] : [part])));
  return made;
}

/** Words for screen readers alone. */
export const said = (text) => el("span", { class: "unseen", text });

// Marks that turn the direction of a line would turn what stands beside them: their picture is shown.
const TURNING = /[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/g;
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g;

/** A text as it may be shown. */
export function visible(text) {
  return String(text)
    .replace(TURNING, "")
    .replace(CONTROL, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)));
}

/** Show one part and hide another. */
export function show(element, shown) {
  element.hidden = !shown;
}

/** Put what is new in the place of all that was; the focus stays on what has the same data-key. */
export function refill(parent, ...children) {
  const active = document.activeElement;
  const key = parent.contains(active) ? active?.dataset?.key : undefined;
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  if (key !== undefined) {
    for (const one of parent.querySelectorAll("[data-key]")) {
      if (one.dataset.key === key) {
        one.focus({ preventScroll: true });
        break;
      }
    }
  }
}

/** Call `act` when nothing came for a while; the last call counts. */
export function settled(act, ms) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...args), ms);
  };
}

/** One or several: "1 row", "12 rows". */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
