// The devices that wait: one card each, which tells how it went on once it is decided.

import * as api from "./api.js";
import { KeyedList, byId, el, name, printable, say } from "./dom.js";
import { exactly, rightsList } from "./wishes.js";
import { ago, changesFor, clientWords, deviceName, grouped, lengthOf, platformWords, returnWords, shortId } from "./words.js";

const OUTCOMES = {
  rejected: "Rejected. If the device connects again, it asks anew.",
  superseded: "The device has asked for something else since: see its new request below.",
  expired: "Expired: the device stopped asking.",
  displaced: "Displaced: too many requests came from its address.",
  removed: "The device was removed, and its request with it.",
  over: "This request no longer waits.",
};
const APPROVED = "Approved. The device comes in when it connects next.";

/** Shows requests; `announce(text)` tells news, `changed()` is called after every decision. */
export class Requests {
  /** Requests that were shown and are decided, until somebody dismisses them: id → how. */
  #endings = new Map();
  #shown = new Map();
  #devices = new Map();
  #begun = false;

  constructor({ announce, changed }) {
    this.announce = announce;
    this.changed = changed;
    this.list = new KeyedList(
      byId("waiting"), (one) => one.requestId, (one) => this.#card(one), byId("waiting-heading"),
    );
  }

  /** Show what waits now, the longest first, so that nothing moves under a pointer. */
  show(pending, devices) {
    this.#devices = new Map(devices.map((one) => [one.deviceId, one]));
    const waiting = new Set(pending.map((one) => one.requestId));
    for (const id of this.#shown.keys()) {
      if (!waiting.has(id) && !this.#endings.has(id)) this.#endings.set(id, { how: "over" });
    }
    for (const one of [...pending].sort((a, b) => a.ts - b.ts)) {
      if (!this.#shown.has(one.requestId) && this.#begun) {
        this.announce(`New device waits: ${printable(deviceName(one))}`);
      }
      this.#shown.set(one.requestId, one);
    }
    this.#begun = true;
    this.#render();
  }

  /** Take what the audit log tells of a request. */
  hear(entry) {
    if (entry.supersededRequestId) this.#end(entry.supersededRequestId, "superseded");
    if (["approved", "rejected", "expired", "displaced"].includes(entry.action)) {
      this.#end(entry.requestId, entry.action);
    }
    if (entry.action === "removed") {
      for (const [id, one] of this.#shown) if (one.deviceId === entry.deviceId) this.#end(id, "removed");
    }
  }

  get awaited() {
    return [...this.#endings.values()].some((one) => one.how === "approved" && !one.online);
  }

  get waits() {
    return this.#shown.size > this.#endings.size;
  }

  tick() {
    this.#render();
  }

  #end(id, how) {
    if (!this.#shown.has(id)) return;
    const before = this.#endings.get(id);
    if (before === undefined || before.how === "over") this.#endings.set(id, { how });
  }

  #render() {
    const items = [...this.#shown.values()];
    const open = items.filter((one) => !this.#endings.has(one.requestId)).length;
    say(byId("waiting-count"), open ? String(open) : "");
    document.title = `${open ? `(${open}) ` : ""}Manage Devices · Latchkey`;
    this.list.show(items);
    byId("nothing-waits").hidden = items.length > 0;
  }

  #card(request) {
    const called = `${printable(deviceName(request))}, request ${shortId(printable(request.requestId))}`;
    const times = el("p", { class: "times" });
    const paired = el("span", { class: "badge" });
    const changes = el("ul", { class: "changes" });
    const problem = el("p", { class: "problem", role: "alert" });
    const outcome = el("p", { class: "outcome", tabindex: "-1" });
    const approve = el(
      "button",
      { type: "button", class: "primary", "aria-label": `Approve ${called}`, on: { click: () => decide(api.approve, "approved") } },
      "Approve",
    );
    const reject = el(
      "button",
      { type: "button", "aria-label": `Reject ${called}`, on: { click: () => decide(api.reject, "rejected") } },
      "Reject",
    );
    const dismiss = el(
      "button",
      { type: "button", class: "small", "aria-label": `Dismiss ${called}`, on: { click: () => this.#dismiss(request.requestId) } },
      "Dismiss",
    );
    const asking = el(
      "div",
      {},
      el("h4", {}, "It asks to come in"),
      rightsList(request.roles, request.scopes),
      changes,
      el(
        "p",
        { class: "asked-as" },
        "Request id ",
        el("code", {}, printable(request.requestId)),
        el("span", { class: "hint" }, ", as the refused device shows it"),
      ),
      el(
        "details",
        {},
        el("summary", {}, "Key fingerprint ", el("code", {}, `${grouped(request.deviceId.slice(0, 16))} …`)),
        el(
          "dl",
          {},
          ...[
            ["All of it, also its device id", grouped(request.deviceId)],
            ["Exactly asked for", exactly(request.roles, request.scopes)],
            ["Client", printable(`${request.clientId}, ${request.clientMode}`)],
          ].map(([what, is]) => el("div", {}, el("dt", {}, what), el("dd", {}, el("code", {}, is)))),
        ),
      ),
      problem,
      el("div", { class: "actions" }, approve, reject),
    );
    const ended = el("div", { class: "ended", hidden: true }, outcome, el("div", { class: "actions" }, dismiss));
    const decide = async (act, how) => {
      if (approve.getAttribute("aria-disabled") === "true") return;
      for (const button of [approve, reject]) button.setAttribute("aria-disabled", "true");
      say(problem, "");
      try {
        await act(request.requestId);
        this.#end(request.requestId, how);
        this.#render();
        outcome.focus();
      } catch (error) {
        if (error.status === 401) this.changed(error);
        else say(problem, `Not done. ${printable(error.message)}`);
      }
      for (const button of [approve, reject]) button.removeAttribute("aria-disabled");
      this.changed();
    };
    const node = el(
      "li",
      { class: "card request", "data-request": request.requestId },
      el("div", { class: "title" }, el("h3", {}, name(deviceName(request))), paired),
      el("p", { class: "kind" }, ...this.#about(request), ` · ${request.remoteIp ?? "from this machine"}`),
      ...this.#others(request),
      times,
      asking,
      ended,
    );
    const show = (one) => {
      const ending = this.#endings.get(one.requestId);
      const device = this.#devices.get(one.deviceId);
      asking.hidden = ending !== undefined;
      ended.hidden = ending === undefined;
      node.classList.toggle("done", ending !== undefined);
      say(paired, device && !ending ? "Paired already" : "");
      paired.hidden = !device || ending !== undefined;
      say(times, `First asked ${ago(one.ts, api.now())}, last ${ago(one.lastAskedAtMs, api.now())}.`);
      times.hidden = ending !== undefined;
      if (ending === undefined) showChanges(changes, changesFor(one, device));
      else say(outcome, this.#outcome(one, ending, device));
    };
    return { node, show };
  }

  #about(claimed) {
    return [clientWords(claimed.clientId), ...platformWords(claimed).map((one) => name(one))].flatMap((one, place) =>
      place ? [" · ", one] : [one],
    );
  }

  /** What else the device says that it is: other clients that use its key, or other names. */
  #others({ identities = [] }) {
    if (identities.length < 2) return [];
    const items = identities
      .slice(1)
      .map((one) => el("li", {}, ...(one.displayName ? [name(one.displayName), " · "] : []), ...this.#about(one), ` · ${one.role}`));
    return [el("p", { class: "others-heading" }, "It also asks as"), el("ul", { class: "others" }, ...items)];
  }

  #outcome(request, ending, device) {
    if (ending.how !== "approved") return OUTCOMES[ending.how];
    if (ending.online) return ending.online;
    if (!(device?.lastSeenAtMs >= device?.approvedAtMs)) return `${APPROVED} ${returnWords(request.clientId)}`;
    const after = `${lengthOf(device.lastSeenAtMs - device.approvedAtMs)} after approval`;
    if (!device.connected) return `It came in ${after}, and has left again.`;
    ending.online = `Online at ${device.replicas.map(shortId).join(", ")}, ${after}.`;
    this.announce(`${printable(deviceName(device))} is online.`);
    return ending.online;
  }

  #dismiss(id) {
    this.#endings.delete(id);
    this.#shown.delete(id);
    this.#render();
  }
}

function showChanges(list, said) {
  list.hidden = said.length === 0;
  if (list.dataset.said === JSON.stringify(said)) return;
  list.dataset.said = JSON.stringify(said);
  list.replaceChildren(...said.map((one) => el("li", {}, printable(one))));
}
