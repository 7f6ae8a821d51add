// The one dialog: says what is about to happen, asks, and stays open when it did not work.

import { byId, el, printable, say } from "./dom.js";

const dialog = byId("dialog");
const input = byId("dialog-input");
let act = null;

/**
 * Ask; `said` are paragraphs of what it does. With `value` it asks for a text, too.
 * `onYes(text)` does it: when it rejects, the reason is shown and the dialog stays.
 */
export function ask({ heading, said, yes, danger = false, value = null, onYes }) {
  say(byId("dialog-heading"), heading);
  byId("dialog-text").replaceChildren(...said.map((one) => el("p", {}, one)));
  byId("dialog-field").hidden = value === null;
  input.required = value !== null;
  input.value = value ?? "";
  say(byId("dialog-problem"), "");
  say(byId("dialog-yes"), yes);
  byId("dialog-yes").className = danger ? "danger" : "primary";
  act = onYes;
  dialog.showModal();
  if (value !== null) input.select();
  else byId("dialog-no").focus();
}

export const close = () => dialog.close();

byId("dialog-no").addEventListener("click", close);
byId("dialog-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (act === null) return;
  const doing = act;
  act = null;
  try {
    await doing(input.value);
    dialog.close();
  } catch (error) {
    say(byId("dialog-problem"), `Not done. ${printable(error.message)}`);
    act = doing;
  }
});
