// Texts for rights, clients and times. Pure; does not access the page.

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

/** Explanation of full control, for operators who are about to grant it. */
export const ADMIN_WORDS =
  "With full control, it can approve, remove and rename every device, grant them any right, change every setting " +
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

/** {title, meaning, flag}: what a scope allows; `flag` marks sensitive scopes. */
export function scopeWords(scope) {
  const [title, meaning] = SCOPES[scope] ?? ["Other right", `${scope}, which this page does not know.`];
  const flag = scope === ADMIN ? "Admin" : SENSITIVE.has(scope) ? "Admin-like" : "";
  return { title, meaning, flag };
}

export function roleWords(role) {
  const [title, meaning] = ROLES[role] ?? [role, ""];
  return { title, meaning };
}

/** Platform and family as sent by the device; only one of them if they are equal. */
export function platformWords({ platform, deviceFamily }) {
  const same = platform?.toLowerCase() === deviceFamily?.toLowerCase();
  return [platform, same ? "" : deviceFamily].filter(Boolean);
}

export const clientWords = (clientId) => CLIENTS[clientId] ?? clientId;

/** How a client of this kind reconnects after its approval. */
export const returnWords = (clientId) =>
  clientId === DASHBOARD
    ? "A dashboard with protocol 4 reconnects by itself; with protocol 3, reload it."
    : "Run its command again or restart it: only dashboards with protocol 4 reconnect by themselves.";

/** Whether granted scopes cover another one, by the same rules as in the gateway. */
export function covers(granted, scope) {
  if (granted.includes(scope)) return true;
  if (!scope.startsWith("operator.")) return false;
  if (granted.includes(ADMIN)) return true;
  const byWrite = ["operator.read", "operator.talk"].includes(scope) || scope.startsWith("operator.sessions.");
  return byWrite && granted.includes("operator.write");
}

/** The operators' label of a device, or its own name; undefined if it has neither. */
export const givenName = (device) => device.operatorLabel ?? device.displayName;

export const deviceName = (device) =>
  givenName(device) ?? `Unnamed device ${shortId(device.deviceId)}`;

/** An address as counted by limits; for IPv6, a /64. */
export const addressWords = (address) =>
  address === "::1" || address.startsWith("127.") ? `this machine (${address})` : address;

/** The key's fingerprint in groups, for comparison by eye. */
export const grouped = (hex) => hex.match(/.{1,4}/g).join(" ");

/** The first characters of an id, sufficient to distinguish ids. */
export const shortId = (id) => id.slice(0, 8);

const count = (number, unit) => `${number} ${unit}${number === 1 ? "" : "s"}`;

/** A duration in its largest whole unit. */
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

/** Titles of scopes, with the scopes; unknown scopes without a title. */
export function titles(scopes) {
  return scopes.map((one) => (SCOPES[one] ? `${SCOPES[one][0].toLowerCase()} (${one})` : one)).join(", ");
}

/**
 * What approval of a request changes for a device that is already paired, as sentences.
 * `device` is the API's object of that device; undefined if it is not paired.
 */
export function changesFor(request, device) {
  if (device === undefined) return [];
  const sentences = [];
  for (const role of request.roles.filter((one) => !device.roles.includes(one))) {
    sentences.push(`New role: ${role}.`);
  }
  for (const token of device.tokens ?? []) {
    if (!token.revokedAtMs || !request.roles.includes(token.role)) continue;
    const back = device.scopes.filter((one) => one.startsWith(`${token.role}.`));
    sentences.push(
      `Its access as ${token.role} was revoked; approval restores it` +
        (back.length ? ` with all earlier rights: ${titles(back)}.` : "."),
    );
  }
  const more = request.scopes.filter((one) => !covers(device.scopes, one));
  if (more.length) sentences.push(`New rights: ${titles(more)}.`);
  const known = [device, ...(device.identities ?? [])].find((one) => one.clientId === request.clientId);
  if (known === undefined) sentences.push(`It uses another client: ${clientWords(request.clientId)}.`);
  for (const [field, called] of [["platform", "platform"], ["deviceFamily", "kind of device"]]) {
    const [before, after] = [(known ?? device)[field], request[field]];
    if (before && (after ?? "").trim().toLowerCase() !== before.trim().toLowerCase()) {
      sentences.push(`Its ${called} is now ${after || "unknown"}; it was ${before}.`);
    }
  }
  sentences.push(
    device.scopes.length ? `It keeps what it has: ${titles(device.scopes)}.` : "It keeps its roles.",
  );
  return sentences;
}

const DAY = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const LONG = { ...DAY, year: "numeric", month: "short", day: "numeric" };

/** A time in this machine's time zone; today's date is omitted. */
export function clock(milliseconds) {
  const then = new Date(milliseconds);
  const today = then.toDateString() === new Date().toDateString();
  return then.toLocaleString("en-GB", today ? DAY : LONG);
}
