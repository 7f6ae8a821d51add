// Targets of notifications, and notifications by this browser while the page is open.

import * as api from "./api.js";
import { KeyedList, byId, el, printable, say } from "./dom.js";
import { ago } from "./words.js";

const STORED = "latchkey-notify";
/** Min. time between two reads of the targets. */
const READS_APART_MS = 10000;

/** Notifications by the browser. It is asked for permission only when the operator switches them on. */
export class BrowserNotices {
  constructor() {
    this.box = byId("notify-here");
    byId("notify-field").hidden = !("Notification" in window);
    this.box.checked = this.on;
    this.box.onchange = () => this.#switch();
    say(byId("notify-problem"), "");
  }

  get on() {
    return "Notification" in window && Notification.permission === "granted" && stored() === "on";
  }

  /** Notify of an entry of the audit log, unless the operator is looking at the page. */
  hear(entry) {
    if (entry.action !== "requested" || !this.on || (!document.hidden && document.hasFocus())) return;
    const called = entry.name ? printable(entry.name) : entry.deviceId.slice(0, 16);
    const from = entry.address ? ` from ${printable(entry.address)}` : "";
    const notice = new Notification("A device is waiting for approval", {
      body: `${called}${from}`,
      tag: entry.requestId,
    });
    notice.onclick = () => {
      window.focus();
      location.hash = `request=${encodeURIComponent(entry.requestId)}`;
      notice.close();
    };
  }

  async #switch() {
    const wanted = this.box.checked;
    const allowed = wanted && (await Notification.requestPermission()) === "granted";
    store(allowed ? "on" : "off");
    this.box.checked = this.on;
    say(byId("notify-problem"), wanted && !this.on ? "Your browser does not allow notifications from this page." : "");
  }
}

export class Webhooks {
  #readAt = 0;

  constructor({ announce }) {
    this.announce = announce;
    this.list = new KeyedList(byId("webhooks"), (one) => one.name, (one) => this.#row(one), byId("webhooks-heading"));
  }

  /** Read the targets if they were not read lately. */
  async look() {
    if (Date.now() - this.#readAt < READS_APART_MS) return;
    await this.#read();
  }

  async #read() {
    this.#readAt = Date.now();
    try {
      const { webhooks } = await api.get("/v1/webhooks");
      this.list.show(webhooks);
      byId("webhooks-table").hidden = webhooks.length === 0;
      byId("no-webhooks").hidden = webhooks.length > 0;
    } catch (error) {
      if (error.status !== 404) throw error; // an earlier release
    }
  }

  #row(first) {
    const [waiting, missed] = [el("td", { class: "number" }), el("td", { class: "number" })];
    const [last, state] = [el("td"), el("td")];
    const label = `Send a test notification to ${first.name}`;
    const test = el("button", { type: "button", class: "small manages", "aria-label": label, on: { click: () => this.#test(first.name) } }, "Test");
    const node = el(
      "tr",
      { "data-webhook": first.name },
      el("th", { scope: "row" }, el("code", {}, first.name)),
      el("td", {}, printable(first.host)),
      waiting, missed, last, state,
      el("td", {}, test),
    );
    const show = (one) => {
      say(waiting, String(one.queued ?? 0));
      say(missed, String((one.dropped ?? 0) + (one.givenUp ?? 0)));
      say(last, one.lastDeliveredAtMs ? ago(one.lastDeliveredAtMs, api.now()) : "never");
      state.className = one.failingSinceMs ? "ill" : "well";
      say(state, one.failingSinceMs ? `Failing: ${printable(one.lastError ?? "")}` : "Healthy");
    };
    return { node, show };
  }

  async #test(name) {
    try {
      await api.call("POST", `/v1/webhooks/${encodeURIComponent(name)}/test`, {});
      this.announce(`A test notification for ${name} was queued.`);
    } catch (error) {
      this.announce(`No test notification was sent: ${printable(error.message)}`);
    }
    await this.#read();
  }
}

function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null; // the browser forbids storage
  }
}

function store(value) {
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // it lasts until the page is closed then: never switched on
  }
}
