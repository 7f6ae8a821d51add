// What a device has or asks for: roles and scopes, in words with what they allow.

import { el, printable } from "/setup/dom.js";
import { roleWords, scopeWords } from "/setup/words.js";

/** A list of roles and scopes; rights to be given with care come first and are marked. */
export function rightsList(roles, scopes) {
  const rank = (scope) => ["Admin", "Admin-like", ""].indexOf(scopeWords(scope).flag);
  const sorted = [...scopes].sort((one, other) => rank(one) - rank(other));
  return el(
    "ul",
    { class: "rights" },
    ...roles.map((role) => right(roleWords(role), role)),
    ...sorted.map((scope) => right(scopeWords(scope), scope)),
    sorted.length ? null : el("li", {}, el("span", { class: "meaning" }, "No rights beyond its role.")),
  );
}

function right({ title, meaning, flag }, code) {
  return el(
    "li",
    { class: flag ? "flagged" : null },
    el("strong", {}, printable(title)),
    flag ? " " : null,
    flag ? el("span", { class: "flag" }, flag) : null,
    " ",
    el("code", {}, printable(code)),
    el("span", { class: "meaning" }, printable(meaning)),
  );
}
