// Paired devices: where they are connected, their rights, and actions on them.

import * as api from "./api.js";
import * as dialog from "./dialog.js";
import { KeyedList, byId, el, name, printable, say } from "./dom.js";
import { Listing } from "./listing.js";
import { refusedOf, wasJustRefused } from "./refusals.js";
import { exactly, rightsList } from "./rights.js";
import { ago, clientWords, clock, deviceName, grouped, platformWords, scopeWords, shortId } from "./words.js";

const PAGE_SIZE = 25;
const SEARCH_FROM = 11;
const DEVICE_ID = /^[0-9a-f]{64}$/;

export class Devices {
  #devices = [];
  #asOf = "";

  /** `changed()` reads all data again; called after each action. */
  constructor({ changed }) {
    this.changed = changed;
    this.listing = new Listing("devices", {
      size: PAGE_SIZE, searchFrom: SEARCH_FROM, heading: "devices-heading", changed: () => this.#turned(),
    });
    this.list = new KeyedList(
      byId("devices"),
      (one) => `${one.deviceId}${one.unreadable ? " unreadable" : ""}`,
      (one) => (one.unreadable ? this.#unreadable(one) : this.#card(one)),
      byId("devices-heading"),
    );
  }

  get searching() {
    return this.listing.search !== "";
  }

  /** Whether a device in the list was just refused and may soon be admitted. */
  get awaited() {
    return this.#devices.some(wasJustRefused);
  }

  /** The API path to read. */
  path() {
    return `/v1/devices?${this.listing.query()}`;
  }

  /** Ids of devices that are open on the page but not in the list that was read. */
  watched(listed) {
    const open = [...this.list.container.children].filter((node) => node.querySelector("details[open]"));
    return [...open.map((node) => node.dataset.device), dialog.openSubject()].filter(
      (id) => DEVICE_ID.test(id) && !listed.has(id),
    );
  }

  /**
   * Show a page of the list; `known` has all devices that were read, by id. Devices with unreadable
   * records come first; they can only be removed.
   */
  show(part, known) {
    const listed = new Set(part.devices.map((one) => one.deviceId));
    const kept = this.watched(listed).filter((id) => known.has(id) && this.list.has(id));
    const unreadable = (part.unreadable ?? []).map((one) => ({ ...one, unreadable: true }));
    this.#devices = [...unreadable, ...part.devices, ...kept.map((id) => known.get(id))];
    const about = dialog.openSubject();
    if (DEVICE_ID.test(about) && !known.has(about)) dialog.voidIf(about, "This device is no longer paired.");
    if (!this.searching) say(byId("devices-count"), part.total ? String(part.total) : "");
    byId("no-devices").hidden = this.searching || this.#devices.length > 0 || !this.listing.first;
    this.listing.show(part.devices.length, part);
    this.tick();
  }

  /** Set the time as of which the devices are shown; empty if they are current. */
  asOf(text) {
    this.#asOf = text;
    this.tick();
  }

  tick() {
    this.list.show(this.#devices);
  }

  #turned() {
    for (const node of this.list.container.querySelectorAll("details[open]")) node.open = false;
    return this.changed();
  }

  #unreadable(device) {
    const id = shortId(device.deviceId);
    const remove = () => dialog.ask({
      heading: `Remove ${id}?`,
      paragraphs: [
        "The record of this device cannot be read, so the device can be neither admitted nor refused.",
        "Once removed, it can request approval like a new device.",
      ],
      yes: "Remove",
      danger: true,
      onYes: () => this.#do(api.remove(device.deviceId)),
    });
    const node = el(
      "li",
      { class: "card device", "data-device": device.deviceId },
      el("div", { class: "title" }, el("h3", {}, el("code", { title: device.deviceId }, id))),
      el("p", { class: "where" }, "Its record cannot be read, so it cannot connect."),
      el(
        "div",
        { class: "actions decides" },
        el("button", { type: "button", class: "small danger", "aria-label": `Remove: ${id}`, on: { click: remove } }, "Remove"),
      ),
    );
    return { node, show: () => {} };
  }

  #card(first) {
    const title = el("h3");
    const where = el("p", { class: "where" });
    const brief = el("p", { class: "brief" });
    const refused = refusedOf();
    const rest = el("div", { class: "rest" });
    const summary = el("summary", {}, "Details and actions");
    const node = el(
      "li",
      { class: "card device", "data-device": first.deviceId },
      el("div", { class: "title" }, title),
      where,
      brief,
      ...refused.nodes,
      el("details", {}, summary, rest),
    );
    let shown = "";
    const show = (device) => {
      node.classList.toggle("online", device.connected);
      say(where, whereWords(device) + (this.#asOf && `, as of ${this.#asOf}`));
      refused.show(device);
      const { lastSeenAtMs, replicas, connected, lastSeenReason, lastRefusal, lastRefusedClaim, ...lasting } = device;
      const drawn = JSON.stringify(lasting, (key, value) => (key === "lastUsedAtMs" ? undefined : value));
      if (drawn === shown) return;
      shown = drawn;
      title.replaceChildren(name(deviceName(device)));
      summary.setAttribute("aria-label", `Details and actions for ${distinct(device)}`);
      brief.replaceChildren(...briefWords(device));
      const focused = rest.contains(document.activeElement);
      rest.replaceChildren(...this.#details(device));
      if (focused) summary.focus();
    };
    return { node, show };
  }

  #details(device) {
    const facts = [
      ["Own name", device.displayName && name(device.displayName)],
      ["Client", `${clientWords(device.clientId)} (${device.clientMode})`],
      ["Platform", name(platformWords(device).join(", "))],
      ["Address", device.remoteIp ?? "this machine"],
      ["First paired", clock(device.createdAtMs)],
      ["Approved", `${clock(device.approvedAtMs)}${viaWords(device.approvedVia)}`],
      ["Key fingerprint and device id", el("code", {}, grouped(device.deviceId))],
      ["Approved roles and scopes", el("code", {}, exactly(device.roles, device.scopes))],
    ];
    return [
      el("dl", {}, ...facts.filter(([, what]) => what).map(([what, is]) => el("div", {}, el("dt", {}, what), el("dd", {}, is)))),
      el("h4", {}, "Approved rights"),
      rightsList(device.roles, device.scopes),
      ...(device.tokens ?? []).map((token) => this.#token(device, token)),
      el(
        "div",
        { class: "actions decides" },
        this.#button("Rename", device, () => this.#rename(device)),
        this.#button("Remove", device, () => this.#remove(device), "danger"),
      ),
    ];
  }

  #token(device, token) {
    const role = token.role;
    const state = token.revokedAtMs
      ? `revoked ${clock(token.revokedAtMs)}`
      : `issued ${clock(token.rotatedAtMs || token.createdAtMs)}`;
    return el(
      "div",
      { class: "token" },
      el("p", {}, `Token as ${role}: ${state}.`),
      token.importedUntilMs
        ? el("p", {}, `Imported: may return once with its earlier token until ${clock(token.importedUntilMs)}.`)
        : null,
      token.revokedAtMs
        ? null
        : el(
            "div",
            { class: "actions decides" },
            this.#button("New token", device, () => this.#rotate(device, token.role, role), "", role),
            this.#button("Revoke", device, () => this.#revoke(device, token.role, role), "", role),
          ),
    );
  }

  #button(text, device, onClick, kind = "", role = "") {
    const label = `${text}${role ? ` as ${role}` : ""}: ${distinct(device)}`;
    return el("button", { type: "button", class: `small ${kind}`.trim(), "aria-label": label, on: { click: onClick } }, text);
  }

  #rename(device) {
    dialog.ask({
      heading: `Rename ${printable(deviceName(device))}`,
      paragraphs: ["Only the name shown to operators changes. The device is not notified and stays connected."],
      yes: "Rename",
      value: deviceName(device),
      about: device.deviceId,
      onYes: (label) => this.#do(api.rename(device.deviceId, label)),
    });
  }

  #rotate(device, role, called) {
    dialog.ask({
      heading: `New token for ${printable(deviceName(device))}?`,
      paragraphs: [
        `Its token as ${called} becomes invalid at once, and its connections in that role are closed.`,
        "It stays paired. To get the new token, it has to connect once with the gateway token.",
      ],
      yes: "Issue a new token",
      danger: true,
      about: device.deviceId,
      onYes: () => this.#do(api.rotate(device.deviceId, role)),
    });
  }

  #revoke(device, role, called) {
    dialog.ask({
      heading: `Revoke ${printable(deviceName(device))} as ${called}?`,
      paragraphs: [
        `Its token as ${called} becomes invalid at once, and its connections in that role are closed.`,
        "It stays in this list. To connect in that role again, it needs a new approval.",
      ],
      yes: "Revoke",
      danger: true,
      about: device.deviceId,
      onYes: () => this.#do(api.revoke(device.deviceId, role)),
    });
  }

  #remove(device) {
    dialog.ask({
      heading: `Remove ${printable(deviceName(device))}?`,
      paragraphs: [
        "The device is removed with all its rights, and its connections are closed at once.",
        "If it connects again, it waits for approval like a new device.",
      ],
      yes: "Remove",
      danger: true,
      about: device.deviceId,
      onYes: () => this.#do(api.remove(device.deviceId)),
    });
  }

  async #do(doing) {
    try {
      await doing;
    } finally {
      this.changed();
    }
  }
}

/** A device's name with its id, for labels of buttons that screen readers read without the card. */
const distinct = (device) => `${printable(deviceName(device))}, ${shortId(device.deviceId)}`;

/** Who approved a device if no person did. */
function viaWords(via) {
  if (via === "silent") return ", by the rule for local clients";
  return via.startsWith("rule:") ? `, by rule ${printable(via.slice("rule:".length))}` : "";
}

function whereWords(device) {
  if (device.connected) {
    const since = device.lastSeenAtMs ? ` since ${clock(device.lastSeenAtMs)}` : "";
    return `Online at ${device.replicas.map(shortId).join(", ")}${since}`;
  }
  return device.lastSeenAtMs ? `Offline, last seen ${ago(device.lastSeenAtMs, api.now())}` : "Not connected yet";
}

function briefWords(device) {
  const active = (device.tokens ?? []).filter((one) => !one.revokedAtMs).map((one) => one.role);
  const roles = device.roles.map((role) => role + (active.includes(role) ? "" : " (revoked)"));
  const flags = new Set(device.scopes.map((one) => scopeWords(one).flag).filter(Boolean));
  const flag = flags.has("Admin") ? "Admin" : [...flags][0];
  return [
    `As ${roles.join(", ")} · ${clientWords(device.clientId)} · `,
    name(device.platform || "unknown platform"),
    flag ? " " : "",
    ...(flag ? [el("span", { class: "flag" }, flag)] : []),
  ];
}
