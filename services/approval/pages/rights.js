// Lists of roles and scopes, with explanations of what they allow.

import { el, printable } from "./dom.js";
import { ADMIN, roleWords, scopeWords } from "./words.js";

/** A list of roles and scopes; sensitive rights come first and are marked. */
export function rightsList(roles, scopes) {
  const rank = (scope) => ["Admin", "Admin-like", ""].indexOf(scopeWords(scope).flag);
  const sorted = [...scopes].sort((one, other) => rank(one) - rank(other));
  const isAdmin = sorted.includes(ADMIN);
  const included = isAdmin ? sorted.filter((one) => one !== ADMIN && one.startsWith("operator.")) : [];
  const named = sorted.filter((one) => !included.includes(one));
  return el(
    "ul",
    { class: "rights" },
    ...roles.map((role) => right(roleWords(role))),
    ...named.map((scope) => right(scopeWords(scope), scope)),
    included.length ? includedIn(included) : null,
    sorted.length ? null : el("li", {}, el("span", {}), el("span", {}, "No rights beyond its role.")),
  );
}

/** Roles and scopes as written in the protocol. */
export const exactly = (roles, scopes) => printable([...roles, ...scopes].join(", "));

function right({ title, meaning, flag }, code = "") {
  return el(
    "li",
    { class: flag ? "flagged" : null },
    el("span", { class: "right" }, el("strong", { title: code || null }, printable(title)), flag ? " " : null, flag ? el("span", { class: "flag" }, flag) : null),
    " ",
    el("span", {}, meaning === "" ? el("code", {}, printable(code)) : printable(meaning)),
  );
}

function includedIn(scopes) {
  const titles = scopes.map((one) => scopeWords(one).title.toLowerCase());
  return el("li", {}, el("span", { class: "right" }, "Also requested"), " ", el("span", {}, `${titles.join(", ")}: all included.`));
}
