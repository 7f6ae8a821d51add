// Addresses with many pending requests: shown separately and rejected together.

import * as api from "./api.js";
import * as dialog from "./dialog.js";
import { KeyedList, byId, el, name, printable, say } from "./dom.js";
import { addressWords, ago, clientWords, deviceName, shortId } from "./words.js";

const REJECT_LIMIT = 200;

export class Crowds {
  #address = "";

  /** `changed()`: the selection of requests changed; `reject(ids)` rejects requests together. */
  constructor({ announce, changed, reject }) {
    this.announce = announce;
    this.changed = changed;
    this.reject = reject;
    this.list = new KeyedList(
      byId("crowds"), (one) => one.address, (one) => this.#row(one), byId("waiting-heading"),
    );
  }

  /** The selected address, or an empty string. */
  get address() {
    return this.#address;
  }

  show(addresses, { total }) {
    const shown = this.#address ? [{ address: this.#address, count: total }] : addresses;
    this.list.show(shown);
    byId("crowds").hidden = shown.length === 0;
  }

  #row({ address }) {
    const from = addressWords(address);
    const text = el("p");
    const alone = el("button", { type: "button", class: "small", on: { click: () => this.#look(address) } });
    const all = el(
      "button",
      { type: "button", class: "small danger decides", "aria-label": `Reject all from ${from}`, on: { click: () => this.#ask(address) } },
      "Reject all",
    );
    const node = el("li", { class: "crowd" }, text, el("div", { class: "actions" }, alone, all));
    const show = ({ count }) => {
      const only = this.#address === address;
      say(text, `${count} pending ${count === 1 ? "request" : "requests"} from ${from}${only ? "." : "; the newest are listed."}`);
      say(alone, only ? "Show all addresses" : "Show them all");
      alone.setAttribute("aria-label", only ? "Show all addresses" : `Show them all: requests from ${from}`);
      all.hidden = count === 0;
    };
    return { node, show };
  }

  #look(address) {
    this.#address = this.#address === address ? "" : address;
    byId("waiting-heading").focus();
    this.changed();
  }

  /** List the requests to reject, and reject exactly those; later ones stay pending. */
  async #ask(address) {
    say(byId("crowd-problem"), "");
    const from = addressWords(address);
    let found;
    try {
      found = await api.get(`/v1/requests?${new URLSearchParams({ address, limit: String(REJECT_LIMIT) })}`);
    } catch (error) {
      if (error.status === 401) this.changed(error);
      else say(byId("crowd-problem"), `Could not be read. ${printable(error.message)}`);
      return;
    }
    const { pending, total } = found;
    if (!pending.length) return;
    const many = `${pending.length} ${pending.length === 1 ? "request" : "requests"}`;
    dialog.ask({
      heading: `Reject ${many} from ${from}?`,
      paragraphs: [
        total > pending.length ? `These are the newest of ${total}. The others stay pending.` : "These are all pending requests from there.",
        "Later requests are not rejected. If a rejected device connects again, it makes a new request.",
      ],
      list: pending.map((one) => [
        name(deviceName(one)),
        ` · ${clientWords(one.clientId)} · request ${shortId(printable(one.requestId))} · ${ago(one.ts, api.now())}`,
      ]),
      yes: `Reject ${many}`,
      danger: true,
      onYes: async () => this.#announceRejected(from, await this.reject(pending.map((one) => one.requestId))),
      afterwards: () => byId("waiting-heading").focus(),
    });
  }

  #announceRejected(from, { rejected, ended }) {
    if (this.#address) this.#look(this.#address);
    const left = ended.length ? ` ${ended.length} had already ended.` : "";
    this.announce(`Rejected ${rejected.length} from ${from}.${left}`);
  }
}
