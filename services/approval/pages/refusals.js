// Why devices cannot connect: refusals of devices, and of clients without a card.

import * as api from "./api.js";
import { KeyedList, byId, el, name, printable, say } from "./dom.js";
import { ago, clientWords, clock, grouped, shortId } from "./words.js";

/** Reasons that only state that a request is pending, which its card already shows. */
const WAITING = new Set(["not-paired", "scope-upgrade", "role-upgrade", "metadata-upgrade"]);

/**
 * Create the part of a card for the refusals of its device: those of its own attempts, and those of
 * clients that only claim its id. `show(device)` takes a device or request of the API.
 */
export function refusedOf() {
  const own = line("refused");
  const claim = line("refused claim");
  return {
    nodes: [own.node, claim.node],
    show(of) {
      own.show(of.lastRefusal, (one) => (one.undecided ? "Could not be decided " : "Last refused "));
      claim.show(of.lastRefusedClaim, () => "A client that claimed to be this device, without proof, was refused ");
    },
  };
}

/** How long after a refusal the page checks whether the device has been admitted. */
const AWAITED_MS = 600000;

/** Whether a device was refused recently and has not been admitted since. */
export const wasJustRefused = ({ lastRefusal }) =>
  lastRefusal !== undefined && !lastRefusal.past && api.now() - lastRefusal.lastAtMs < AWAITED_MS;

/** Clients without a card that were refused in the last day, newest first. */
export class Refusals {
  #refusals = [];

  constructor() {
    this.list = new KeyedList(byId("refusals"), keyOf, row, byId("refusals-heading"));
  }

  async read() {
    try {
      return await api.get("/v1/refusals?of=unknown&limit=20");
    } catch (error) {
      if (error.status === 404) return { refusals: [] }; // a replica of an earlier release
      throw error;
    }
  }

  show({ refusals }) {
    this.#refusals = refusals;
    byId("no-refusals").hidden = refusals.length > 0;
    this.tick();
  }

  tick() {
    this.list.show(this.#refusals);
  }
}

function line(kind) {
  const summary = el("span");
  const facts = el("span", { class: "meaning" });
  const remedy = el("span", { class: "meaning" });
  const node = el("p", { class: kind, hidden: true }, summary, facts, remedy);
  let shown = "";
  const show = (one, beginning) => {
    // That it was pending before its approval is not worth showing.
    node.hidden = one === undefined || (one.past && WAITING.has(one.reason));
    if (node.hidden) return;
    const past = one.past ? ", before it was last admitted" : "";
    say(summary, `${beginning(one)}${ago(one.lastAtMs, api.now())}${past}: ${printable(one.title)}.`);
    node.classList.toggle("past", one.past);
    const drawn = JSON.stringify([one.reason, one.detail, one.past, one.count, one.remoteIp, one.replica, one.firstAtMs]);
    if (drawn === shown) return;
    shown = drawn;
    facts.replaceChildren(...factsOf(one));
    remedy.replaceChildren(...(one.past || WAITING.has(one.reason) ? [] : remedyOf(one)));
  };
  return { node, show };
}

const keyOf = (one) =>
  one.deviceId ? `${one.deviceId} ${one.proven}` : JSON.stringify([one.remoteIp, one.reason]);

function row() {
  const title = el("strong");
  const whose = el("span", { class: "badge" });
  const client = el("span");
  const facts = el("span", { class: "meaning" });
  const remedy = el("span", { class: "meaning" });
  const times = el("time");
  const node = el("li", {}, times, el("span", {}, title, " ", whose, el("br"), client, facts, remedy));
  const show = (one) => {
    say(times, ago(one.lastAtMs, api.now()));
    const drawn = JSON.stringify([one, 0]);
    if (node.dataset.drawn === drawn) return;
    node.dataset.drawn = drawn;
    times.setAttribute("datetime", new Date(one.lastAtMs).toISOString());
    const words = printable(one.title);
    say(title, one.undecided ? `Could not be decided: ${words}.` : `${words.charAt(0).toUpperCase()}${words.slice(1)}.`);
    say(whose, whoseWords(one));
    whose.title = one.deviceId ? grouped(one.deviceId) : "";
    client.replaceChildren(
      ...(one.displayName ? ["“", name(one.displayName), "”, "] : []),
      one.clientId ? printable(clientWords(one.clientId)) : "A client that did not identify itself",
    );
    facts.replaceChildren(...factsOf(one));
    remedy.replaceChildren(...remedyOf(one));
  };
  return { node, show };
}

function whoseWords(one) {
  if (!one.deviceId) return "No device";
  return `${one.proven ? "Device" : "Claims to be"} ${shortId(one.deviceId)}`;
}

function factsOf(one) {
  const times = one.count > 1 ? `${one.count} times since ${clock(one.firstAtMs)}, ` : "";
  const from = one.remoteIp === undefined ? "from this machine" : `from ${printable(one.remoteIp)}`;
  const detail = one.detail === undefined || WAITING.has(one.reason) ? [] : [" · ", name(one.detail)];
  return [`${times}${from}, at gateway `, el("code", { title: one.replica }, shortId(one.replica)), ...detail];
}

/** The remedy as nodes; text between backticks becomes code. */
function remedyOf(one) {
  const parts = one.remedy.split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
  const claim = one.deviceId && !one.proven;
  return [el("strong", {}, claim ? "What to do, if it is yours: " : "What to do: "), ...parts];
}
