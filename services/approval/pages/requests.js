// Pending requests, newest first: one card each, which shows the outcome once decided.

import * as api from "./api.js";
import { Crowds } from "./crowds.js";
import * as dialog from "./dialog.js";
import { KeyedList, byId, printable, say } from "./dom.js";
import { Listing } from "./listing.js";
import { requestCard } from "./request-card.js";
import { inUse, keepStill } from "./still.js";
import { ADMIN_WORDS, ago, deviceName, lengthOf, returnWords, shortId } from "./words.js";

const PAGE_SIZE = 20;
const SEARCH_FROM = 6;
/** Max. requests listed per address, newest first, so that a flood does not hide others. */
const PER_ADDRESS = 5;
/** Max. ended requests that stay on the page until they are dismissed. */
const ENDED_KEPT = 10;
const KEPT_LIMIT = 20;

const OUTCOMES = {
  rejected: "Rejected. If the device connects again, it makes a new request.",
  superseded: "The device has since made another request.",
  expired: "Expired: the device did not connect again.",
  displaced: "Displaced: too many requests came from its address or network.",
  removed: "The device was removed, and its request with it.",
  over: "This request is no longer pending.",
};
const APPROVED = "Approved. The device is admitted when it next connects.";

/** Shows requests; `announce(text)` informs users of screen readers, `changed()` reads all data again. */
export class Requests {
  /** Pending requests that are listed, by id. */
  #open = new Map();
  /** Ended requests that were shown: id → {request, how, …}, latest last. */
  #ended = new Map();
  #devices = new Map();
  #cards = new Map();
  #known = null;
  #total = 0;

  constructor({ announce, changed }) {
    this.announce = announce;
    this.changed = changed;
    this.listing = new Listing("waiting", {
      size: PAGE_SIZE, searchFrom: SEARCH_FROM, heading: "waiting-heading", changed: () => this.#turned(),
    });
    this.crowds = new Crowds({ announce, changed: () => this.#turned(), reject: (ids) => this.#rejectAll(ids) });
    this.list = new KeyedList(
      byId("waiting"), (one) => one.requestId, (one) => this.#card(one), byId("waiting-heading"),
    );
  }

  /** What to read: {path, keep}; requests in `keep` are listed in any case while pending. */
  wanted() {
    const query = this.listing.query();
    const address = this.crowds.address;
    if (address) query.set("address", address);
    else query.set("perAddress", String(PER_ADDRESS));
    const keep = [...this.#open.keys()].filter((id) => this.#used(id)).slice(0, KEPT_LIMIT);
    const linked = this.linked?.requestId;
    if (linked && !keep.includes(linked)) keep.push(linked);
    if (keep.length) query.set("keep", keep.join(","));
    return { path: `/v1/requests?${query}`, keep: new Set(keep) };
  }

  /** Ids of the devices whose state the cards show. */
  get watched() {
    return [
      ...[...this.#ended.values()].filter((one) => one.how === "approved" && !one.removed).map((one) => one.request.deviceId),
      ...[...this.#open.values()].filter((one) => one.isRepair).map((one) => one.deviceId),
    ];
  }

  /** Show a list that was read according to `wanted()`. */
  take(answer, { keep }) {
    const listed = new Map(answer.pending.map((one) => [one.requestId, one]));
    for (const id of this.#open.keys()) {
      if (listed.has(id)) continue;
      if (keep.has(id)) this.#end(id, "over");
      else if (!this.#used(id)) this.#open.delete(id);
    }
    for (const [id, one] of listed) if (!this.#ended.has(id)) this.#open.set(id, one);
    this.#tellOf(answer.pending);
    if (!this.listing.search && !this.crowds.address) this.#total = answer.total;
    this.listing.show(answer.pending.length, answer);
    this.crowds.show(answer.addresses ?? [], answer);
    this.#render();
  }

  /** Show devices whose read started at `begunAt`; `missing` are ids that are not paired. */
  learn(devices, missing, begunAt) {
    this.#devices = devices;
    for (const one of this.#ended.values()) {
      if (one.how === "approved" && one.at < begunAt && missing.has(one.request.deviceId)) one.removed = true;
    }
    this.#render();
  }

  /** Process an entry of the audit log. */
  hear(entry) {
    if (entry.supersededRequestId) this.#end(entry.supersededRequestId, "superseded");
    if (["approved", "rejected", "expired", "displaced"].includes(entry.action)) {
      this.#end(entry.requestId, entry.action, entry.atMs);
    }
    if (entry.action === "removed") {
      for (const [id, one] of this.#open) if (one.deviceId === entry.deviceId) this.#end(id, "removed");
      for (const one of this.#ended.values()) {
        if (one.how === "approved" && one.request.deviceId === entry.deviceId) one.removed = true;
      }
    }
    this.#render();
  }

  get awaited() {
    return [...this.#ended.values()].some((one) => one.how === "approved" && !one.removed && !one.cameInMs);
  }

  get waits() {
    return this.#open.size > 0;
  }

  tick() {
    this.#render();
  }

  /** Page, search or address changed: drop the requests shown before. */
  #turned() {
    for (const id of this.#open.keys()) if (!dialog.isAbout(id)) this.#open.delete(id);
    return this.changed();
  }

  #used(id) {
    const card = this.#cards.get(id);
    return dialog.isAbout(id) || (card !== undefined && card.node.isConnected && inUse(card.node));
  }

  #tellOf(pending) {
    const newcomers = pending.filter((one) => !this.#known?.has(one.requestId));
    if (this.#known !== null && this.listing.first && !this.listing.search && newcomers.length) {
      const one = newcomers[0];
      this.announce(
        newcomers.length === 1
          ? `New device waiting: ${printable(deviceName(one))}`
          : `${newcomers.length} new devices waiting, the newest is ${printable(deviceName(one))}`,
      );
    }
    this.#known = new Set([...pending.map((one) => one.requestId), ...(this.#known ?? [])].slice(0, 1000));
  }

  #end(id, how, atMs = 0) {
    const request = this.#open.get(id);
    if (request !== undefined) {
      this.#open.delete(id);
      this.#ended.set(id, { request, how, atMs, at: performance.now() });
      dialog.voidIf(id, OUTCOMES[how] ?? "The request has been approved.");
      this.#forgetSome();
    } else if (this.#ended.get(id)?.how === "over") {
      Object.assign(this.#ended.get(id), { how, atMs });
    }
  }

  /** Drop ended requests beyond ENDED_KEPT, first those that ended without a decision. */
  #forgetSome() {
    const rank = (one) => (one.how === "approved" ? 2 : one.how === "rejected" ? 1 : 0);
    const idle = [...this.#ended].filter(([id]) => !this.#used(id)).sort(([, a], [, b]) => rank(a) - rank(b) || a.at - b.at);
    for (const [id] of idle.slice(0, Math.max(0, this.#ended.size - ENDED_KEPT))) this.#ended.delete(id);
  }

  #render() {
    const items = [...this.#open.values(), ...[...this.#ended.values()].map((one) => one.request)];
    items.sort((a, b) => b.ts - a.ts || (a.requestId < b.requestId ? 1 : -1));
    say(byId("waiting-count"), this.#total ? String(this.#total) : "");
    document.title = `${this.#total ? `(${this.#total}) ` : ""}Manage Devices · Latchkey`;
    keepStill(
      this.list.container,
      () => this.list.show(items),
      (moved) => this.#cards.forEach((card) => card.settle(moved)),
    );
    for (const id of this.#cards.keys()) if (!this.#open.has(id) && !this.#ended.has(id)) this.#cards.delete(id);
    const filtered = this.listing.search || this.crowds.address || !this.listing.first;
    byId("nothing-waits").hidden = items.length > 0 || Boolean(filtered);
    byId("nothing-found").hidden = items.length > 0 || !filtered;
  }

  #card(request) {
    const id = request.requestId;
    const card = requestCard(request, {
      approve: () => this.#approve(this.#open.get(id) ?? request),
      reject: () => this.#decide(id, "rejected", () => api.reject(id)),
      dismiss: () => this.#dismiss(id),
    });
    this.#cards.set(id, card);
    const show = (one) => {
      const ending = this.#ended.get(id);
      const device = this.#devices.get(one.deviceId);
      card.show(one, device, ending === undefined ? null : this.#outcome(one, ending, device));
    };
    return { node: card.node, show };
  }

  async #approve(request) {
    if (request.grantsAdmin) this.#approveAdmin(request);
    else await this.#decide(request.requestId, "approved", () => api.approve(request.requestId, false));
  }

  #approveAdmin(request) {
    const id = request.requestId;
    const asks = request.scopes.includes("operator.admin");
    dialog.ask({
      heading: `Give full control to ${printable(deviceName(request))}?`,
      paragraphs: [
        asks
          ? "It requests operator.admin."
          : "Approval restores operator.admin, which was approved for it before.",
        ADMIN_WORDS,
      ],
      yes: "Approve with full control",
      danger: true,
      about: id,
      onYes: async () => {
        this.#decided(id, "approved", await api.approve(id, true));
      },
      afterwards: () => this.#cards.get(id)?.focusOutcome(),
    });
  }

  async #decide(id, how, act) {
    try {
      this.#decided(id, how, await act());
      this.#cards.get(id)?.focusOutcome();
    } catch (error) {
      if (error.status === 401) this.changed(error);
      else if (isAboutAdmin(error) && this.#open.has(id)) this.#approveAdmin(this.#open.get(id));
      else this.#cards.get(id)?.fail(`Failed. ${printable(error.message)}`);
    }
    this.changed();
  }

  #decided(id, how, { device }) {
    if (this.#open.has(id)) this.#total = Math.max(0, this.#total - 1);
    this.#end(id, how, device?.approvedAtMs);
    this.#render();
  }

  /** Reject requests that were shown together; their cards are removed. */
  async #rejectAll(ids) {
    const before = new Map(ids.map((id) => [id, this.#open.get(id)]));
    for (const id of ids) this.#open.delete(id);
    try {
      const done = await api.rejectAll(ids);
      this.#render();
      return done;
    } catch (error) {
      for (const [id, one] of before) if (one) this.#open.set(id, one);
      if (error.status === 401) this.changed(error);
      throw error;
    } finally {
      this.changed();
    }
  }

  /** Return the text of an outcome, considering whether the device is connected or removed now. */
  #outcome(request, ending, device) {
    if (ending.how !== "approved") return OUTCOMES[ending.how];
    if (ending.removed) return "It was approved and has since been removed.";
    if (device?.approvedAtMs < ending.atMs) device = undefined; // as it was before
    if (device?.lastSeenAtMs >= ending.atMs) ending.cameInMs ??= Math.max(1, device.lastSeenAtMs - ending.atMs);
    if (device && isRevoked(device, request.roles)) return "It was approved and its access has since been revoked.";
    if (!ending.cameInMs) return `${APPROVED} ${returnWords(request.clientId)}`;
    const after = `${lengthOf(ending.cameInMs)} after approval`;
    if (!device?.connected) {
      const seen = device?.lastSeenAtMs ? ` Last admitted ${ago(device.lastSeenAtMs, api.now())}.` : "";
      return `Admitted ${after}, and disconnected since.${seen}`;
    }
    if (!ending.announced) this.announce(`${printable(deviceName(device))} is online.`);
    ending.announced = true;
    return `Online at ${device.replicas.map(shortId).join(", ")}, ${after}.`;
  }

  #dismiss(id) {
    this.#ended.delete(id);
    this.#render();
  }
}

const isAboutAdmin = (error) => String(error.problem?.type).endsWith(":grants-admin");

const isRevoked = (device, roles) =>
  roles.every((role) => device.tokens?.some((token) => token.role === role && token.revokedAtMs));
