// What rights, clients and times are called in words. Nothing here touches the page.

const SCOPES = {
  "operator.admin": ["Everything", "Full control: every right and setting of the gateway."],
  "operator.pairing": ["Manage devices", "Approve and remove devices, change their tokens."],
  "operator.approvals": ["Approve actions", "Allow or deny what agents want to run."],
  "operator.talk.secrets": ["Read voice keys", "Read the secret keys of voice services."],
  "operator.write": ["Write", "Send messages and start work. Includes reading."],
  "operator.read": ["Read", "See status, sessions and who is connected."],
  "operator.questions": ["Answer questions", "Answer what agents ask a person."],
  "operator.talk": ["Talk", "Hold voice conversations."],
  "operator.sessions.read": ["Read sessions", "See the sessions of agents."],
  "operator.sessions.write": ["Write sessions", "Change the sessions of agents."],
};
export const ADMIN = "operator.admin";
const SENSITIVE = new Set(["operator.pairing", "operator.approvals", "operator.talk.secrets"]);

/** What full control is, for whoever is about to give it. */
export const ADMIN_WORDS =
  "With full control it can approve, remove and rename every device, give any right to any of them, change every setting " +
  "of the gateway, and have commands run on the machines behind it. Approve it only if this device is yours.";

const ROLES = {
  operator: ["As operator", "A person's tool: it steers the gateway."],
  node: ["As node", "A machine that agents use: its commands, its camera."],
};

const DASHBOARD = "openclaw-control-ui";
const CLIENTS = {
  [DASHBOARD]: "Dashboard in a browser",
  "openclaw-browser-copilot": "Browser copilot",
  "openclaw-tui": "Terminal interface",
  "webchat": "Web chat",
  "webchat-ui": "Web chat",
  "cli": "Command line",
  "node-host": "Node host",
  "gateway-client": "Program",
  "openclaw-macos": "macOS app",
  "openclaw-linux": "Linux app",
  "openclaw-ios": "iOS app",
  "openclaw-watchos": "watchOS app",
  "openclaw-android": "Android app",
  "openclaw-worker": "Worker",
  "openclaw-probe": "Probe",
};

/** {title, meaning, flag}: what a scope allows; `flag` marks what is to be given with care. */
export function scopeWords(scope) {
  const [title, meaning] = SCOPES[scope] ?? ["Other right", `${scope}, of which this page knows no more.`];
  const flag = scope === ADMIN ? "Admin" : SENSITIVE.has(scope) ? "Admin-like" : "";
  return { title, meaning, flag };
}

export function roleWords(role) {
  const [title, meaning] = ROLES[role] ?? [role, ""];
  return { title, meaning };
}

/** Platform and family as the device says them; once where they are the same word. */
export function platformWords({ platform, deviceFamily }) {
  const same = platform?.toLowerCase() === deviceFamily?.toLowerCase();
  return [platform, same ? "" : deviceFamily].filter(Boolean);
}

export const clientWords = (clientId) => CLIENTS[clientId] ?? clientId;

/** What a client of this kind does once it is approved, or what is to be done for it. */
export const returnWords = (clientId) =>
  clientId === DASHBOARD
    ? "A dashboard of protocol 4 does so by itself; one of protocol 3 has to be loaded anew."
    : "Run its command again, or start it again: only a dashboard of protocol 4 comes back by itself.";

/** Whether granted scopes cover another one, as the gateway reckons it. */
export function covers(granted, scope) {
  if (granted.includes(scope)) return true;
  if (!scope.startsWith("operator.")) return false;
  if (granted.includes(ADMIN)) return true;
  const byWrite = ["operator.read", "operator.talk"].includes(scope) || scope.startsWith("operator.sessions.");
  return byWrite && granted.includes("operator.write");
}

/** What operators call a device, else what it calls itself; undefined when it has no name. */
export const givenName = (device) => device.operatorLabel ?? device.displayName;

export const deviceName = (device) =>
  givenName(device) ?? `Unnamed device ${shortId(device.deviceId)}`;

/** An address as limits count by it: IPv6 by its /64. */
export const addressWords = (address) =>
  address === "::1" || address.startsWith("127.") ? `this machine (${address})` : address;

/** The key's fingerprint, in groups that can be compared by eye. */
export const grouped = (hex) => hex.match(/.{1,4}/g).join(" ");

/** The first characters of an id; enough to tell them apart. */
export const shortId = (id) => id.slice(0, 8);

const count = (number, unit) => `${number} ${unit}${number === 1 ? "" : "s"}`;

/** A length of time in its largest whole unit. */
export function lengthOf(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return count(seconds, "second");
  if (seconds < 3600) return count(Math.floor(seconds / 60), "minute");
  if (seconds < 86400) return count(Math.floor(seconds / 3600), "hour");
  return count(Math.floor(seconds / 86400), "day");
}

export function ago(thenMs, nowMs) {
  return nowMs - thenMs < 2000 ? "just now" : `${lengthOf(nowMs - thenMs)} ago`;
}

/** Scopes by their titles, with the scope itself where this page knows none. */
export function titles(scopes) {
  return scopes.map((one) => (SCOPES[one] ? `${SCOPES[one][0].toLowerCase()} (${one})` : one)).join(", ");
}

/**
 * What approving a request changes for a device that is paired already, as sentences.
 * `device` is that device as the API shows it; undefined when it is not paired.
 */
export function changesFor(request, device) {
  if (device === undefined) return [];
  const said = [];
  for (const role of request.roles.filter((one) => !device.roles.includes(one))) {
    said.push(`New role: ${role}.`);
  }
  for (const token of device.tokens ?? []) {
    if (!token.revokedAtMs || !request.roles.includes(token.role)) continue;
    const back = device.scopes.filter((one) => one.startsWith(`${token.role}.`));
    said.push(
      `Its access as ${token.role} was revoked; approving gives it back` +
        (back.length ? ` with all it had: ${titles(back)}.` : "."),
    );
  }
  const more = request.scopes.filter((one) => !covers(device.scopes, one));
  if (more.length) said.push(`New rights: ${titles(more)}.`);
  const known = [device, ...(device.identities ?? [])].find((one) => one.clientId === request.clientId);
  if (known === undefined) said.push(`It uses another client: ${clientWords(request.clientId)}.`);
  for (const [field, called] of [["platform", "platform"], ["deviceFamily", "kind of device"]]) {
    const [before, after] = [(known ?? device)[field], request[field]];
    if (before && (after ?? "").trim().toLowerCase() !== before.trim().toLowerCase()) {
      said.push(`It says its ${called} is ${after || "unknown"} now; it was ${before}.`);
    }
  }
  said.push(
    device.scopes.length ? `It keeps what it has: ${titles(device.scopes)}.` : "It keeps its roles.",
  );
  return said;
}

const DAY = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const LONG = { ...DAY, year: "numeric", month: "short", day: "numeric" };

/** A moment on this machine's clock; the date is left out for today. */
export function clock(milliseconds) {
  const then = new Date(milliseconds);
  const today = then.toDateString() === new Date().toDateString();
  return then.toLocaleString("en-GB", today ? DAY : LONG);
}
