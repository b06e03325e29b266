// Where the page begins: the models are asked for, the tabs brought to life, the example answered.

import { Fault, json } from "./api.js";
import { $, el, refill, show, visible } from "./dom.js";
import { liveReading, useModel, wrong } from "./reading.js";
import { tabs } from "./tabs.js";

let cards = [];
let tab = "tab-read";
let others = null; // What the other tabs need: fetched once the first answer stands.

/** The other tabs, brought to life when they first are wanted. */
function rest() {
  others ??= Promise.all([import("./batch.js"), import("./model.js")]).then(
    ([batch, model]) => {
      batch.liveBatch();
      if (chosen()) batch.batchModel(chosen());
      return { ...batch, ...model };
    },
    () => {
      others = null; // The server may be back later.
      throw new Fault("The server cannot be reached, so that a part of this page is missing. It is asked for again.");
    },
  );
  return others;
}

const chosen = () => card($("model").value);
const card = (name) => cards.find((one) => one.name === name) ?? null;

/** Both lists: the model that answers, and another to hold against it. */
function list(model, other) {
  const option = (one) => el("option", { value: one.name, text: visible(one.name) });
  refill($("model"), ...cards.map(option));
  $("model").value = model;
  const rivals = cards.filter((one) => one.name !== model);
  refill($("other"), el("option", { value: "", text: "no other" }), ...rivals.map(option));
  $("other").value = rivals.some((one) => one.name === other) ? other : "";
  show($("other-field"), cards.length > 1);
}

async function choose() {
  list($("model").value, $("other").value);
  const answered = useModel(chosen(), card($("other").value));
  others?.then(({ batchModel }) => batchModel(chosen()), () => {});
  await Promise.all([answered, look()]);
}

/** Draw what the tab that is seen needs beside the answer. */
async function look() {
  if (tab === "tab-read") return;
  const { showModel } = await rest();
  if (tab === "tab-model" && chosen()) await showModel(chosen());
}

/** Ask which models there are, and answer the text that stands there. */
async function begin() {
  try {
    const told = await json("/models");
    cards = told.models;
    const before = $("model").value;
    list(card(before) ? before : told.default, $("other").value);
    await choose();
    await rest();
  } catch (error) {
    wrong(error);
  }
}

const open = tabs($("tabs"), (id) => {
  tab = id;
  look().catch(wrong);
});
liveReading(begin);
for (const id of ["model", "other"]) $(id).addEventListener("change", () => choose().catch(wrong));

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
  const [file] = event.dataTransfer.files;
  if (file) rest().then(({ takeFile }) => takeFile(file), wrong);
});

begin();
