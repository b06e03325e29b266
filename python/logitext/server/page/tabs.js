// Tabs by the ARIA pattern: one stop for the Tab key, arrows, Home and End among them.

/** Bring tabs to life; `shown` is told which panel is now seen. Returns what opens one. */
export function tabs(list, shown) {
  const all = [...list.querySelectorAll("[role=tab]")];

  function open(tab) {
    for (const one of all) {
      const chosen = one === tab;
      one.setAttribute("aria-selected", String(chosen));
      one.tabIndex = chosen ? 0 : -1;
      document.getElementById(one.getAttribute("aria-controls")).hidden = !chosen;
    }
    shown(tab.id);
  }

  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) open(tab);
  });
  list.addEventListener("keydown", (event) => {
    const at = all.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    let next = null;
    if (step) next = all[(at + step + all.length) % all.length];
    else if (event.key === "Home") next = all[0];
    else if (event.key === "End") next = all.at(-1);
    if (at < 0 || next === null) return;
    event.preventDefault();
    next.focus();
    open(next);
  });
  return (id) => open(all.find((one) => one.id === id));
}
