// The confirmation dialog: explains an action and stays open if the action fails.

import { byId, el, printable, say } from "./dom.js";

const dialog = byId("dialog");
const input = byId("dialog-input");
const NAME_LIMIT = 64;
let act = null;
let then = null;
let subject = "";

/**
 * Ask for confirmation. `paragraphs` are texts, `list` the affected items. With `value`, the dialog
 * also asks for a name. `about` is the id of its subject, for `voidIf`. `onYes(text)` carries out
 * the action; if it rejects, the dialog shows the reason and stays open. `afterwards()` is called
 * after success, once the dialog is closed.
 */
export function ask({ heading, paragraphs, list = [], yes, danger = false, value = null, about = "", onYes, afterwards = null }) {
  say(byId("dialog-heading"), heading);
  byId("dialog-text").replaceChildren(...paragraphs.map((one) => el("p", {}, one)));
  byId("dialog-list").hidden = list.length === 0;
  byId("dialog-list").replaceChildren(...list.map((one) => el("li", {}, ...one)));
  byId("dialog-field").hidden = value === null;
  input.value = value ?? "";
  say(byId("dialog-problem"), "");
  say(byId("dialog-yes"), yes);
  byId("dialog-yes").className = danger ? "danger" : "primary";
  byId("dialog-yes").hidden = false;
  say(byId("dialog-no"), "Cancel");
  act = onYes;
  then = afterwards;
  subject = about;
  dialog.showModal();
  if (value !== null) input.select();
  else byId("dialog-no").focus();
}

export const close = () => dialog.close();

/** Whether the dialog is open and about this id. */
export const isAbout = (id) => dialog.open && subject === id;

/** The id the open dialog is about, or an empty string. */
export const openSubject = () => (dialog.open ? subject : "");

/** If the dialog is about this id, show why the action is no longer possible, and only close it. */
export function voidIf(id, why) {
  if (!isAbout(id) || act === null) return;
  act = null;
  const button = byId("dialog-yes");
  const focused = button === document.activeElement;
  button.hidden = true;
  say(byId("dialog-no"), "Close");
  say(byId("dialog-problem"), why);
  if (focused) byId("dialog-no").focus();
}

byId("dialog-no").addEventListener("click", close);
byId("dialog-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (act === null) return;
  const [doing, after] = [act, then];
  const asksName = !byId("dialog-field").hidden;
  if (asksName && !input.value.trim()) {
    say(byId("dialog-problem"), `A name has 1 to ${NAME_LIMIT} characters and is not blank.`);
    input.focus();
    return;
  }
  act = null;
  say(byId("dialog-problem"), "");
  try {
    await doing(input.value);
    dialog.close();
    after?.();
  } catch (error) {
    say(byId("dialog-problem"), `Failed. ${printable(error.message)}`);
    act = doing;
  }
});
