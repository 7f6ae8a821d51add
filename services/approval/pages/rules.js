// Approval rules: what approves devices without a person.

import * as api from "./api.js";
import { ask } from "./dialog.js";
import { KeyedList, byId, el, printable, say } from "./dom.js";
import { exactly } from "./rights.js";
import { clock, shortId } from "./words.js";

const DAY_MS = 86400000;
/** Max. requests listed in a trial. */
const TRIED_SHOWN = 10;

const STATES = { active: "active", expired: "expired", "used-up": "used up" };

const words = (text) => text.split(/[\s,]+/).filter(Boolean);

export class Rules {
  #begun = false;

  constructor({ announce, failed }) {
    this.announce = announce;
    this.failed = failed;
    this.list = new KeyedList(byId("rules"), (one) => one.name, (one) => this.#card(one), byId("rules-heading"));
    byId("rule-form").onsubmit = (event) => {
      event.preventDefault();
      this.#try();
    };
  }

  /** Read the rules again. */
  async read() {
    try {
      const { rules } = await api.get("/v1/rules");
      this.list.show(rules);
      byId("no-rules").hidden = rules.length > 0;
      this.#begun = true;
    } catch (error) {
      if (error.status === 404) return; // a replica of an earlier release without rules
      if (!this.#begun || error.status === 401) this.failed(error);
    }
  }

  #card(first) {
    const state = el("span", { class: "badge" });
    const covers = el("p", { class: "where" });
    const label = `Remove rule: ${printable(first.name)}`;
    const remove = el("button", { type: "button", class: "small danger", "aria-label": label, on: { click: () => this.#remove(first) } }, "Remove");
    const node = el(
      "li",
      { class: "card", "data-rule": first.name },
      el("div", { class: "title" }, el("h3", {}, printable(first.name)), state),
      covers,
      el("div", { class: "actions manages" }, remove),
    );
    const show = (one) => {
      say(state, STATES[one.state] ?? printable(one.state));
      const who = [...one.networks.map(printable), ...one.deviceIds.map((id) => `device ${shortId(id)}`)].join(", ");
      say(
        covers,
        `Approves ${exactly([one.role], one.scopes)} for ${who}. Used ${one.used} of ${one.count} times. ` +
          `${one.state === "expired" ? "Expired" : "Expires"} ${clock(one.expiresAtMs)}. Added by ${printable(one.createdBy)}.`,
      );
    };
    return { node, show };
  }

  #body() {
    return {
      name: byId("rule-name").value.trim(),
      role: byId("rule-role").value,
      scopes: words(byId("rule-scopes").value),
      networks: words(byId("rule-networks").value),
      deviceIds: words(byId("rule-devices").value),
      count: Number(byId("rule-count").value),
      expiresAtMs: Math.round(api.now() + Number(byId("rule-days").value) * DAY_MS),
      allowAdmin: byId("rule-admin").checked,
    };
  }

  /** Show what the rule would approve, and ask whether to add it. */
  async #try() {
    const body = this.#body();
    say(byId("rule-problem"), "");
    let trial;
    try {
      trial = await api.call("POST", "/v1/rule-trials", body);
    } catch (error) {
      say(byId("rule-problem"), `Not added. ${printable(error.message)}`);
      return;
    }
    const covered = (found) => found.filter((one) => one.approved);
    const [now, past] = [covered(trial.pending), covered(trial.past)];
    ask({
      heading: `Add rule ${printable(body.name)}?`,
      paragraphs: [
        `It approves up to ${body.count} requests until ${clock(body.expiresAtMs)}, without a person.`,
        `Of ${trial.pending.length} requests waiting now, it would approve ${now.length}; of ${trial.past.length} in the audit log, ${past.length}.`,
      ],
      list: [...now, ...past].slice(0, TRIED_SHOWN).map((one) => [
        `${clock(one.atMs)} · device ${shortId(one.deviceId)} · ${exactly([one.role], one.scopes)} · from ${printable(one.address)}`,
      ]),
      yes: "Add rule",
      danger: body.allowAdmin,
      onYes: async () => {
        await api.call("POST", "/v1/rules", body);
        byId("rule-form").reset();
        await this.read();
        this.announce(`Rule ${body.name} was added.`);
      },
    });
  }

  #remove(rule) {
    ask({
      heading: `Remove rule ${printable(rule.name)}?`,
      paragraphs: ["It approves nothing more, at any replica. Devices that it approved stay approved."],
      yes: "Remove",
      danger: true,
      onYes: async () => {
        try {
          await api.call("DELETE", `/v1/rules/${encodeURIComponent(rule.name)}`);
        } catch (error) {
          if (error.status !== 404) throw error; // another operator has removed it
        }
        await this.read();
        this.announce(`Rule ${rule.name} was removed.`);
      },
    });
  }
}
