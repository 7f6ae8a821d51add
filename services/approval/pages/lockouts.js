// Addresses that are locked out after too many wrong secrets, and lifting of lock-outs.

import * as api from "./api.js";
import { ask } from "./dialog.js";
import { KeyedList, byId, el, printable, say } from "./dom.js";
import { clock, lengthOf } from "./words.js";

/** How often lock-outs are read; their start and end cause no events. */
const REREAD_MS = 5000;

const SECRETS = {
  "shared-secret": "Gateway token",
  "device-token": "Device tokens",
  "bootstrap-token": "Setup codes",
  "device-join": "Join URLs",
  "admin-token": "Operator tokens",
};

const shown = (lockout) => printable(lockout.network ?? lockout.address);
const secretWords = (lockout) => SECRETS[lockout.credential] ?? printable(lockout.credential);

export class Lockouts {
  #lockouts = [];
  #readAt = -Infinity;

  /** `announce(text)` informs users of screen readers. */
  constructor({ announce }) {
    this.announce = announce;
    this.list = new KeyedList(
      byId("lockouts"),
      (one) => `${one.credential} ${one.address}`,
      (one) => this.#card(one),
      byId("devices-heading"),
    );
  }

  /** Read the lock-outs, unless they were read a moment ago. Rejects with CallFailed. */
  async look() {
    if (performance.now() - this.#readAt < REREAD_MS) {
      this.#show();
      return;
    }
    try {
      await this.#read();
    } catch (error) {
      if (error.status !== 404) throw error; // a replica of an earlier release without lock-outs
      this.#readAt = performance.now();
    }
  }

  async #read() {
    const { lockouts } = await api.get("/v1/lockouts");
    this.#readAt = performance.now();
    this.#lockouts = lockouts;
    this.#show();
  }

  /** Show active lock-outs with the time left. */
  #show() {
    const running = this.#lockouts.filter((one) => one.untilMs > api.now());
    byId("lockouts-section").hidden = running.length === 0;
    say(byId("lockouts-count"), running.length ? String(running.length) : "");
    this.list.show(running);
  }

  #card(first) {
    const until = el("p", { class: "where" });
    const node = el(
      "li",
      { class: "card", "data-lockout": `${first.credential} ${first.address}` },
      el("div", { class: "title" }, el("h3", {}, shown(first)), el("span", { class: "badge" }, secretWords(first))),
      until,
      el("div", { class: "actions decides" }, this.#liftButton(first)),
    );
    const show = (lockout) => {
      const left = lengthOf(lockout.untilMs - api.now());
      say(until, `${lockout.failures} different wrong values. Locked out since ${clock(lockout.sinceMs)}, for another ${left}.`);
    };
    return { node, show };
  }

  #liftButton(lockout) {
    const label = `Lift lock-out: ${shown(lockout)}, ${secretWords(lockout)}`;
    const onClick = () => this.#lift(lockout);
    return el("button", { type: "button", class: "small", "aria-label": label, on: { click: onClick } }, "Lift lock-out");
  }

  #lift(lockout) {
    ask({
      heading: `Lift the lock-out of ${shown(lockout)}?`,
      paragraphs: [
        `${secretWords(lockout)}: correct ones are accepted from this address again at every replica.`,
        "The wrong values stay known. Clients that repeat them do not lock it out again; ten new ones do.",
      ],
      yes: "Lift lock-out",
      onYes: () => this.#do(lockout),
    });
  }

  async #do(lockout) {
    const path = `/v1/lockouts/${encodeURIComponent(lockout.credential)}/${encodeURIComponent(lockout.address)}`;
    try {
      await api.call("DELETE", path);
    } catch (error) {
      if (error.status !== 404) throw error; // it has expired or was lifted by another operator
    }
    await this.#read();
    this.announce(`The lock-out of ${shown(lockout)} was lifted.`);
  }
}
