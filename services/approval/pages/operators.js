// Operators: who may do what. Shown only to operators who may manage.

import * as api from "./api.js";
import { ask } from "./dialog.js";
import { KeyedList, byId, el, printable, say } from "./dom.js";
import { ago, clock } from "./words.js";

const DAY_MS = 86400000;

const PERMISSIONS = {
  view: "May see everything on this page.",
  decide: "May see everything, and approve, reject, change and remove devices.",
  manage: "May do everything, which includes operators and rules.",
};

export class Operators {
  #begun = false;

  constructor({ announce, failed }) {
    this.announce = announce;
    this.failed = failed;
    this.list = new KeyedList(byId("operators"), (one) => one.name, (one) => this.#card(one), byId("operators-heading"));
    byId("operator-form").onsubmit = (event) => {
      event.preventDefault();
      this.#create();
    };
    say(byId("operator-token"), "");
    byId("operator-created").hidden = true;
  }

  /** Read the operators again. */
  async read() {
    try {
      const { operators } = await api.get("/v1/operators");
      this.list.show(operators);
      this.#begun = true;
    } catch (error) {
      if (error.status === 403 || error.status === 404) return; // not permitted, or an earlier release
      if (!this.#begun || error.status === 401) this.failed(error);
    }
  }

  #card(first) {
    const permission = el("span", { class: "badge" });
    const meaning = el("p", { class: "where" });
    const label = `Revoke: ${printable(first.name)}`;
    const revoke = el("button", { type: "button", class: "small danger", "aria-label": label, on: { click: () => this.#revoke(first) } }, "Revoke");
    const node = el(
      "li",
      { class: "card", "data-operator": first.name },
      el("div", { class: "title" }, el("h3", {}, printable(first.name)), permission),
      meaning,
      first.kind === "admin" ? null : el("div", { class: "actions" }, revoke),
    );
    const show = (one) => {
      say(permission, one.expired ? `${one.permission}, expired` : one.permission);
      const origin = one.kind === "admin" ? "Holds APPROVAL_ADMIN_TOKEN." : `Created ${clock(one.createdAtMs)} by ${printable(one.createdBy)}.`;
      const used = one.lastUsedAtMs ? ` Last active ${ago(one.lastUsedAtMs, api.now())}.` : " Not active yet.";
      const ends = one.expiresAtMs ? ` ${one.expired ? "Expired" : "Expires"} ${clock(one.expiresAtMs)}.` : "";
      say(meaning, `${PERMISSIONS[one.permission] ?? ""} ${origin}${used}${ends}`);
    };
    return { node, show };
  }

  async #create() {
    const form = byId("operator-form");
    const body = { name: byId("operator-name").value.trim(), permission: byId("operator-permission").value };
    const days = Number(byId("operator-days").value);
    if (days) body.expiresAtMs = Math.round(api.now() + days * DAY_MS);
    say(byId("operator-problem"), "");
    try {
      const { operator, token } = await api.call("POST", "/v1/operators", body);
      say(byId("operator-token"), token);
      say(byId("copy-operator"), "Copy token");
      say(byId("operator-created-name"), operator.name);
      byId("operator-created").hidden = false;
      form.reset();
      this.announce(`Operator ${operator.name} was created.`);
      byId("copy-operator").focus();
    } catch (error) {
      say(byId("operator-problem"), `Not created. ${printable(error.message)}`);
    }
    await this.read();
  }

  #revoke(operator) {
    ask({
      heading: `Revoke operator ${printable(operator.name)}?`,
      paragraphs: ["The token and the sessions of this operator end at once, at every replica. What it approved stays approved."],
      yes: "Revoke",
      danger: true,
      onYes: async () => {
        try {
          await api.call("DELETE", `/v1/operators/${encodeURIComponent(operator.name)}`);
        } catch (error) {
          if (error.status !== 404) throw error; // another operator has revoked it
        }
        await this.read();
        this.announce(`Operator ${operator.name} was revoked.`);
      },
    });
  }
}
