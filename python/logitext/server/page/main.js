// Where the page begins: the models are asked for, the tabs brought to life, the example answered.

import { json } from "./api.js";
import { batchModel, liveBatch, takeFile } from "./batch.js";
import { $, el, refill, show, visible } from "./dom.js";
import { showModel } from "./model.js";
import { liveReading, useModel, wrong } from "./reading.js";
import { tabs } from "./tabs.js";

let cards = [];
let tab = "tab-read";

const card = (name) => cards.find((one) => one.name === name) ?? null;

/** Both lists: the model that answers, and another to hold against it. */
function list(chosen, other) {
  const option = (one) => el("option", { value: one.name, text: visible(one.name) });
  refill($("model"), ...cards.map(option));
  $("model").value = chosen;
  const others = cards.filter((one) => one.name !== chosen);
  refill($("other"), el("option", { value: "", text: "no other" }), ...others.map(option));
  $("other").value = others.some((one) => one.name === other) ? other : "";
  show($("other-field"), cards.length > 1);
}

function choose() {
  const chosen = $("model").value;
  list(chosen, $("other").value);
  const now = card(chosen);
  batchModel(now);
  if (tab === "tab-model") showModel(now);
  return useModel(now, card($("other").value));
}

/** Ask which models there are, and answer the text that stands there. */
async function begin() {
  try {
    const told = await json("/models");
    cards = told.models;
    const before = $("model").value;
    list(card(before) ? before : told.default, $("other").value);
  } catch (error) {
    wrong(error);
    return;
  }
  await choose();
}

const open = tabs($("tabs"), (id) => {
  tab = id;
  if (id === "tab-model" && $("model").value) showModel(card($("model").value));
});
liveReading(begin);
liveBatch();
$("model").addEventListener("change", choose);
$("other").addEventListener("change", choose);

// A file may be dropped anywhere; the browser would else leave the page for it.
const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragover", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  if (!carries(event)) return;
  event.preventDefault();
  open("tab-batch");
  if (event.dataTransfer.files[0]) takeFile(event.dataTransfer.files[0]);
});

begin();
