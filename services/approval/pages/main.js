// The page: signs in, follows events, reads data and shows errors.

import * as api from "./api.js";
import * as dialog from "./dialog.js";
import { Devices } from "./devices.js";
import { byId, printable, say } from "./dom.js";
import { follow } from "./events.js";
import { Linked } from "./linked.js";
import { Lockouts } from "./lockouts.js";
import { SetupCodes } from "./setup-codes.js";
import { BrowserNotices, Webhooks } from "./notices.js";
import { Operators } from "./operators.js";
import { Audit, Replicas } from "./overview.js";
import { Refusals } from "./refusals.js";
import { Requests } from "./requests.js";
import { Rules } from "./rules.js";
import { clock } from "./words.js";

const POLL_MS = 1000;
const HIDDEN_POLL_MS = 10000;
/** How often requests and devices are read without events: a device's repeated attempts, or a
 * short connection after its approval, cause none. */
const REREAD_MS = 5000;
/** Min. time between two reads of the lists. */
const READS_APART_MS = 300;
/** Min. time between two reads caused by refusals. */
const REFUSALS_APART_MS = 2000;
const AUDIT_SHOWN = 50;
/** Max. devices read by id at once. */
const NAMED_LIMIT = 50;

/** Everything that runs while the operator is signed in. */
class Live {
  #ended = new AbortController();
  #reading = null;
  #again = false;
  #presence = "";
  #refused = 0;
  #readAt = 0;
  #staleSince = null;
  #streaming = true;

  constructor(onSignedOut) {
    this.onSignedOut = onSignedOut;
    const changed = (error) => this.#changed(error);
    this.requests = new Requests({ announce, changed });
    this.devices = new Devices({ changed });
    this.linked = new Linked({ signal: this.#ended.signal, look: () => this.read() });
    this.requests.linked = this.linked;
    this.notices = new BrowserNotices();
    this.webhooks = new Webhooks({ announce });
    this.refusals = new Refusals();
    this.replicas = new Replicas();
    this.lockouts = new Lockouts({ announce });
    this.setupCodes = new SetupCodes({ announce, signal: this.#ended.signal });
    this.audit = new Audit();
    const failed = (error) => this.#failed(error);
    this.rules = new Rules({ announce, failed });
    this.operators = new Operators({ announce, failed });
  }

  run() {
    const { signal } = this.#ended;
    follow({
      signal,
      stays: () => this.notices.on,
      onBegin: () => this.#begin(),
      onEvent: (event) => this.#hear(event),
      onBreak: (error) => this.#broke(error),
    });
    this.#poll();
    document.addEventListener("visibilitychange", () => document.hidden || this.#look(), { signal });
  }

  end() {
    this.#ended.abort();
  }

  async #begin() {
    this.#streaming = true;
    this.read();
    this.#readAccess();
    try {
      const { entries } = await api.get(`/v1/audit?limit=${AUDIT_SHOWN}`);
      this.audit.begin(entries);
    } catch (error) {
      this.#failed(error);
    }
  }

  #hear(event) {
    if (event.name === "reset") {
      this.#begin();
      return;
    }
    const entry = JSON.parse(event.data);
    this.audit.add(entry);
    this.requests.hear(entry);
    this.notices.hear(entry);
    if (entry.action.startsWith("rule-") || entry.actor.startsWith("rule:")) this.rules.read();
    if (entry.action.startsWith("operator-")) this.#readAccess();
    this.read();
  }

  #readAccess() {
    this.rules.read();
    if (permission() === "manage") this.operators.read();
  }

  #broke(error) {
    this.#streaming = false;
    if (error.status === 401) this.#failed(error);
    else this.#look();
  }

  #changed(error) {
    if (!error) return this.read();
    this.#failed(error);
    return undefined;
  }

  async #poll() {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      await this.#look();
      const hidden = document.hidden && !this.requests.awaited;
      await new Promise((resolve) => setTimeout(resolve, hidden ? HIDDEN_POLL_MS : POLL_MS));
    }
  }

  /** Read the replicas; read the rest only if presence changed or the data is old. */
  async #look() {
    try {
      const found = await api.get("/v1/replicas");
      if (this.#ended.signal.aborted) return;
      this.replicas.show(found);
      const presence = JSON.stringify([found.presenceVersion, found.gateways.map((one) => one.bootId).sort()]);
      const aging = this.requests.waits || this.requests.awaited || this.devices.awaited || !this.#streaming;
      const aged = aging && Date.now() - this.#readAt > REREAD_MS;
      // A search reads all devices, so changes of presence can wait.
      const moved = presence !== this.#presence && (!this.devices.searching || Date.now() - this.#readAt > REREAD_MS);
      const refused = found.refusalsVersion !== this.#refused && Date.now() - this.#readAt > REFUSALS_APART_MS;
      if (moved || aged || refused || this.#staleSince !== null) {
        await this.read();
        this.#presence = presence;
        this.#refused = found.refusalsVersion;
      }
      await this.lockouts.look();
      await this.setupCodes.look();
      await this.webhooks.look();
      this.#well();
      this.requests.tick();
      this.devices.tick();
      this.refusals.tick();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Read requests and devices; calls during a read cause one more read shortly after. */
  read() {
    this.#again = true;
    this.#reading ??= this.#readAll().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #readAll() {
    try {
      while (this.#again && !this.#ended.signal.aborted) {
        const wait = READS_APART_MS - (Date.now() - this.#readAt);
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        this.#again = false;
        await this.#readOnce();
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  async #readOnce() {
    const begunAt = performance.now();
    const wanted = this.requests.wanted();
    const [waiting, paired, refused] = await Promise.all([
      api.get(wanted.path),
      api.get(this.devices.path()),
      this.refusals.read(),
    ]);
    if (this.#ended.signal.aborted) return;
    this.refusals.show(refused);
    this.requests.take(waiting, wanted);
    const devices = new Map(paired.devices.map((one) => [one.deviceId, one]));
    const watched = [...this.requests.watched, ...this.devices.watched(devices)];
    const named = [...new Set(watched)].filter((id) => !devices.has(id)).slice(0, NAMED_LIMIT);
    const ids = [...named, ...this.audit.unknown(NAMED_LIMIT - named.length)];
    const others = ids.length ? (await api.get(`/v1/devices?ids=${ids.join(",")}`)).devices : [];
    if (this.#ended.signal.aborted) return;
    this.#readAt = Date.now();
    for (const one of others) devices.set(one.deviceId, one);
    this.devices.show(paired, devices);
    this.requests.learn(devices, new Set(named.filter((id) => !devices.has(id))), begunAt);
    this.audit.learn([...waiting.pending, ...devices.values()]);
    this.linked.show();
  }

  #well() {
    if (this.#ended.signal.aborted) return;
    if (this.#staleSince !== null) announce("Connected again.");
    this.#staleSince = null;
    this.devices.asOf("");
    byId("signed-in").classList.remove("stale");
    say(byId("trouble"), "");
    say(byId("state"), this.#streaming ? "Live" : "Reconnecting");
    byId("state").className = this.#streaming ? "state live" : "state";
  }

  #failed(error) {
    if (this.#ended.signal.aborted) return;
    if (error.status === 401) {
      this.onSignedOut("Your session has ended. Sign in again.");
      return;
    }
    this.#staleSince ??= clock(Date.now());
    this.devices.asOf(this.#staleSince);
    byId("signed-in").classList.add("stale");
    const why =
      error.status === 0
        ? "The approval service does not answer."
        : isRedisAway(error)
          ? "Redis does not answer. Until it does, no device can be admitted."
          : `${error.message}.`;
    say(byId("trouble"), `${why} Data shown is from ${this.#staleSince}; this page retries automatically.`);
    say(byId("state"), "No connection");
    byId("state").className = "state";
  }
}

const isRedisAway = (error) => String(error.problem.type).endsWith(":store-unavailable");

function announce(text) {
  say(byId("news"), text);
}

/** What the signed-in operator may do. */
const permission = () => document.documentElement.dataset.permission;

let live = null;

function showSignIn(why) {
  live?.end();
  live = null;
  dialog.close();
  byId("signed-in").hidden = true;
  byId("state").hidden = true;
  byId("sign-out").hidden = true;
  byId("who").hidden = true;
  delete document.documentElement.dataset.permission;
  say(byId("trouble"), "");
  say(byId("sign-in-why"), why);
  byId("sign-in").hidden = false;
  byId("token").focus();
}

function showPage(session) {
  byId("sign-in").hidden = true;
  byId("signed-in").hidden = false;
  byId("state").hidden = false;
  byId("sign-out").hidden = session.signedInBy === "proxy";
  byId("who").hidden = false;
  say(byId("who"), `${printable(session.operator)} (may ${session.permission})`);
  document.documentElement.dataset.permission = session.permission;
  const url = session.gatewayUrl?.replace(/^http/, "ws");
  byId("gateway-known").hidden = !url;
  byId("gateway-unknown").hidden = Boolean(url);
  say(byId("gateway-url"), url ?? "");
  for (const id of ["waiting", "crowds", "devices", "refusals", "gateways", "approvals", "audit", "lockouts", "setup-codes", "webhooks", "rules", "operators"]) {
    byId(id).replaceChildren();
  }
  live?.end();
  live = new Live(showSignIn);
  live.run();
}

async function start() {
  for (;;) {
    try {
      showPage(await api.get("/v1/session"));
      return;
    } catch (error) {
      if (error.status === 401) {
        showSignIn("");
        return;
      }
      say(byId("trouble"), isRedisAway(error) ? "Redis does not answer. Trying again." : `${error.message}. Trying again.`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      say(byId("trouble"), "");
    }
  }
}

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = byId("token");
  say(byId("token-problem"), "");
  try {
    await api.signIn(input.value);
    input.value = "";
    showPage(await api.get("/v1/session"));
    byId("waiting-heading").focus();
  } catch (error) {
    const minutes = Math.ceil(error.retryAfterSeconds / 60);
    const messages = {
      401: "That is not the token of an operator.",
      429: `Too many wrong tokens from your address. Try again in ${minutes} min.`,
    };
    say(byId("token-problem"), messages[error.status] ?? `Not signed in. ${error.message}.`);
    input.select();
  }
});

byId("sign-out").addEventListener("click", async () => {
  try {
    await api.signOut();
  } catch (error) {
    if (error.status !== 401) {
      say(byId("trouble"), `Not signed out: ${error.message}.`);
      return;
    }
  }
  showSignIn("You are signed out.");
});

function copies(button, textId, what) {
  button.addEventListener("click", async () => {
    const text = byId(textId);
    try {
      await navigator.clipboard.writeText(text.textContent);
      announce(`${what} copied.`);
      say(button, "Copied");
    } catch {
      getSelection().selectAllChildren(text);
      announce(`${what} selected.`);
    }
  });
}

copies(byId("copy-gateway"), "gateway-url", "Address");
copies(byId("copy-operator"), "operator-token", "Token");

start();
