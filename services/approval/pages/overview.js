// Replicas with their health, and the audit log.

import { KeyedList, byId, el, name, printable, say } from "./dom.js";
import { clock, givenName, lengthOf, shortId } from "./words.js";

const LATE_MS = 3000;
const KEPT = 50;

function row(bootId, cells) {
  const id = el("th", { scope: "row" }, el("code", { title: bootId }, shortId(bootId)));
  return { node: el("tr", {}, id, ...cells) };
}

export class Replicas {
  constructor() {
    this.gateways = new KeyedList(byId("gateways"), (one) => one.bootId, gatewayRow, document.body);
    this.approvals = new KeyedList(byId("approvals"), (one) => one.bootId, approvalRow, document.body);
  }

  show({ gateways, approvals }) {
    const byName = (one, other) => (one.bootId < other.bootId ? -1 : 1);
    this.gateways.show([...gateways].sort(byName));
    this.approvals.show([...approvals].sort(byName));
  }
}

/** The cells of a replica's release and uptime. */
function processCells() {
  const version = el("td");
  const uptime = el("td");
  const show = (one) => {
    say(version, one.version === undefined ? "not reported" : printable(one.version));
    say(uptime, one.uptimeSeconds === undefined ? "not reported" : lengthOf(one.uptimeSeconds * 1000));
  };
  return { cells: [version, uptime], show };
}

/** How a gateway finds the OpenClaw behind it; empty where it has none. */
function upstreamWords(upstream) {
  if (upstream === undefined) return "";
  if (!upstream.reachable) {
    return `OpenClaw has been unreachable for ${lengthOf((upstream.downSeconds ?? 0) * 1000)}: ${printable(upstream.reason ?? "")}`;
  }
  const version = upstream.version ? `OpenClaw ${printable(upstream.version)}` : "OpenClaw answers";
  const problems = (upstream.problems ?? []).map(printable);
  const reason = upstream.reason ? `: ${printable(upstream.reason)}` : "";
  return problems.length ? `${version}, set up wrong: ${problems.join(", ")}${reason}` : version;
}

function gatewayRow(first) {
  const connections = el("td", { class: "number" });
  const process = processCells();
  const health = el("td");
  const show = (one) => {
    process.show(one);
    say(connections, String(one.connections));
    const late = one.lastBeatAgoMs > LATE_MS;
    const behind = one.changesBehind ?? 0;
    health.className = late ? "ill" : "well";
    const upstream = late ? "" : upstreamWords(one.upstream);
    if (late) say(health, `No heartbeat for ${lengthOf(one.lastBeatAgoMs)}`);
    else say(health, [behind ? `Catching up, ${behind} behind` : "Healthy", upstream].filter(Boolean).join(". "));
    if (upstream && (!one.upstream.reachable || one.upstream.problems)) health.className = "ill";
  };
  return { ...row(first.bootId, [connections, ...process.cells, health]), show };
}

function approvalRow(first) {
  const process = processCells();
  const health = el("td");
  const show = (one) => {
    process.show(one);
    const late = one.lastAliveAgoMs > LATE_MS;
    health.className = late ? "ill" : "well";
    say(health, late ? `No sign of life for ${lengthOf(one.lastAliveAgoMs)}` : "Healthy");
  };
  return { ...row(first.bootId, [...process.cells, health]), show };
}

const DONE = {
  requested: "requested approval",
  approved: "was approved",
  rejected: "was rejected",
  removed: "was removed",
  renamed: "was renamed",
  rotated: "was issued a new token",
  revoked: "was revoked",
  expired: "did not connect again: its request expired",
  displaced: "was displaced by newer requests",
  "token-issued": "got a token with more of its approved rights",
  "token-exchanged": "exchanged the token it was imported with",
  imported: "was imported",
  "name-changed": "changed its name",
  "restore-begun": "are being restored from a backup",
  restored: "were restored from a backup",
  "operator-created": "was created",
  "operator-revoked": "was revoked",
  "rule-added": "was added",
  "rule-removed": "was removed",
  "setup-code-created": "was created",
  "setup-code-revoked": "was revoked",
  "setup-code-bound": "presented a setup code",
  "setup-code-redeemed": "was admitted by a setup code",
  "setup-code-refused": "presented a setup code that was refused",
  "setup-code-delivered": "was sent its tokens",
  "setup-code-delivery-uncertain": "may not have been sent its tokens",
  "lockout-lifted": "was lifted",
  "history-lost": "were re-evaluated, because Redis had lost the newest change",
  "left-out": "caused more entries than are listed",
  unreadable: "did something that can no longer be read",
};

export class Audit {
  #entries = new Map();
  #names = new Map();
  #asked = new Set();

  constructor() {
    this.list = new KeyedList(byId("audit"), (one) => one.id, (one) => this.#line(one), byId("audit-heading"));
  }

  /** Replace the entries shown by these. */
  begin(entries) {
    this.#entries.clear();
    this.add(...entries);
  }

  add(...entries) {
    for (const one of entries) this.#entries.set(one.id, one);
    const newest = [...this.#entries.keys()].sort((a, b) => b - a);
    for (const id of newest.slice(KEPT)) this.#entries.delete(id);
    this.list.show(newest.slice(0, KEPT).map((id) => this.#entries.get(id)));
  }

  /** Ids of devices whose name is not known yet; each is returned once. */
  unknown(limit) {
    const found = new Set();
    for (const { deviceId } of this.#entries.values()) {
      if (found.size < limit && deviceId && !this.#names.has(deviceId) && !this.#asked.has(deviceId)) found.add(deviceId);
    }
    for (const id of found) this.#asked.add(id);
    return [...found];
  }

  /** Store the current names of devices. Devices choose them, so entries are shown with the id. */
  learn(devices) {
    for (const one of devices) this.#names.set(one.deviceId, givenName(one));
    this.list.show([...this.#entries.keys()].sort((a, b) => b - a).map((id) => this.#entries.get(id)));
  }

  #line(entry) {
    const ofCode = ["setup-code-created", "setup-code-revoked"].includes(entry.action);
    const who = ofCode
      ? "A setup code"
      : entry.deviceId
      ? el("code", { title: entry.deviceId }, shortId(entry.deviceId))
      : entry.action.startsWith("operator-")
        ? "An operator"
        : entry.action.startsWith("rule-")
        ? "A rule"
        : entry.credential
        ? "A lock-out"
        : entry.address
          ? "Devices"
          : entry.action === "unreadable"
            ? "Somebody"
            : "All devices";
    const called = el("span", { class: "called" });
    const detail = [
      entry.label && quoted(entry.label),
      entry.role && [entry.role, ...(entry.scopes ?? [])].map(printable).join(", "),
      entry.permission && printable(entry.permission),
      entry.credential && printable(entry.credential),
      entry.access && `${printable(entry.access)} access`,
      entry.reason && printable(entry.reason),
      entry.address && `from ${printable(entry.address)}`,
    ].filter(Boolean);
    const self = entry.actor === `device ${entry.deviceId}`;
    const node = el(
      "li",
      {},
      el("time", { datetime: new Date(entry.atMs).toISOString() }, clock(entry.atMs)),
      el(
        "span",
        {},
        who,
        " ",
        called,
        ` ${DONE[entry.action] ?? printable(entry.action)}`,
        self ? "" : ` by ${actorWords(entry.actor)}`,
        detail.length ? el("span", { class: "meaning" }, detail.join(" · ")) : null,
      ),
    );
    const show = () => {
      const given = this.#names.get(entry.deviceId);
      called.hidden = !given;
      if (given && called.textContent !== quoted(given)) called.replaceChildren("“", name(given), "”");
    };
    return { node, show };
  }
}

const quoted = (text) => `“${printable(text)}”`;

function actorWords(actor) {
  if (actor === "operator") return "an operator"; // entries of releases without named operators
  if (actor.startsWith("rule:")) return `rule ${printable(actor.slice("rule:".length))}`;
  if (actor.startsWith("operator:")) return `operator ${printable(actor.slice("operator:".length))}`;
  return printable(actor.replace(/[0-9a-f]{64}/, shortId));
}
