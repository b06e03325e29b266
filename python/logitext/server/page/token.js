// The dialog that asks for the token of a server that wants one.

import { $, show } from "./dom.js";

/**
 * Ask; the page waits behind the dialog.
 * @returns {Promise<string | null>} null if it was closed without one.
 */
export function askToken(why) {
  const dialog = $("token");
  const input = $("token-value");
  $("token-fault").textContent = why;
  show($("token-fault"), why !== "");
  input.value = "";
  return new Promise((resolve) => {
    const form = $("token-form");
    let given = null;
    const submit = (event) => {
      event.preventDefault();
      given = input.value.trim() || null;
      if (given !== null && !/^[\x20-\x7e]+$/.test(given)) {
        // A header cannot hold it; fetch would fail as if the server were gone.
        $("token-fault").textContent = "A token has only ASCII characters.";
        show($("token-fault"), true);
        given = null;
        return;
      }
      if (given !== null) dialog.close();
    };
    const closed = () => {
      form.removeEventListener("submit", submit);
      dialog.removeEventListener("close", closed);
      input.value = "";
      resolve(given);
    };
    form.addEventListener("submit", submit);
    dialog.addEventListener("close", closed);
    $("token-later").onclick = () => dialog.close();
    dialog.showModal();
    input.focus();
  });
}
