// The card of a request: what the device asks for, the actions, and the outcome.

import * as api from "./api.js";
import { el, name, printable, say } from "./dom.js";
import { refusedOf } from "./refusals.js";
import { exactly, rightsList } from "./rights.js";
import { ago, changesFor, clientWords, deviceName, grouped, platformWords, shortId } from "./words.js";

/**
 * Create the card of a request. `on` has the handlers of its buttons: approve(), reject() and
 * dismiss(). Returns the card's element, `show` to update the request, and `fail` to show the
 * failure of an action.
 */
export function requestCard(request, on) {
  const called = calledWords(request);
  const times = el("p", { class: "times" });
  const paired = el("span", { class: "badge" });
  const others = el("div");
  const changes = el("ul", { class: "changes" });
  const problem = el("p", { class: "problem", role: "alert" });
  const outcome = el("p", { class: "outcome", tabindex: "-1" });
  const refused = refusedOf();
  const button = (text, kind, click) =>
    el("button", { type: "button", class: kind || null, "aria-label": `${text} ${called}`, on: { click } }, text);
  const approve = button("Approve", "primary", (event) => press(event, on.approve));
  const reject = button("Reject", "", (event) => press(event, on.reject));
  const dismiss = button("Dismiss", "small", on.dismiss);
  let busy = false;
  let settling = false;
  const disable = () => {
    for (const one of [approve, reject]) {
      if (busy || settling) one.setAttribute("aria-disabled", "true");
      else one.removeAttribute("aria-disabled");
      one.classList.toggle("busy", busy);
    }
  };
  const press = async (event, act) => {
    // A card that has just moved ignores clicks; keys always apply to the focused button.
    if (busy || (settling && event.detail > 0)) return;
    busy = true;
    disable();
    say(problem, "");
    try {
      await act();
    } finally {
      busy = false;
      disable();
    }
  };
  const asking = el(
    "div",
    {},
    el("h4", {}, "It requests access"),
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
          ["Complete, also its device id", grouped(request.deviceId)],
          ["Requested roles and scopes", exactly(request.roles, request.scopes)],
          ["Client", printable(`${request.clientId}, ${request.clientMode}`)],
        ].map(([what, is]) => el("div", {}, el("dt", {}, what), el("dd", {}, el("code", {}, is)))),
      ),
    ),
    problem,
    el("div", { class: "actions decides" }, approve, reject),
    ...refused.nodes,
  );
  const ended = el("div", { class: "ended", hidden: true }, outcome, el("div", { class: "actions" }, dismiss));
  const node = el(
    "li",
    { class: "card request", "data-request": request.requestId },
    el("div", { class: "title" }, el("h3", {}, name(deviceName(request))), paired),
    el("p", { class: "kind" }, ...aboutWords(request), ` · ${request.remoteIp ?? "from this machine"}`),
    others,
    times,
    asking,
    ended,
  );
  return {
    node,
    /** Show the request, with its device if that is paired; `outcomeText` is its outcome, or null. */
    show(one, device, outcomeText) {
      asking.hidden = outcomeText !== null;
      ended.hidden = outcomeText === null;
      node.classList.toggle("done", outcomeText !== null);
      showOthers(others, one);
      say(paired, device && outcomeText === null ? "Already paired" : "");
      paired.hidden = !device || outcomeText !== null;
      say(times, `First asked ${ago(one.ts, api.now())}, last ${ago(one.lastAskedAtMs, api.now())}.`);
      times.hidden = outcomeText !== null;
      refused.show(one);
      if (outcomeText === null) showChanges(changes, changesFor(one, device));
      else say(outcome, outcomeText);
    },
    fail: (text) => say(problem, text),
    settle(moved) {
      settling = moved;
      disable();
    },
    focusOutcome: () => outcome.focus(),
  };
}

/** Device name and request id, for labels of buttons that screen readers read without the card. */
const calledWords = (request) => `${printable(deviceName(request))}, request ${shortId(printable(request.requestId))}`;

function aboutWords(claimed) {
  return [clientWords(claimed.clientId), ...platformWords(claimed).map((one) => name(one))].flatMap((one, place) =>
    place ? [" · ", one] : [one],
  );
}

/** Show further identities of the device: other clients that use its key, or other names. */
function showOthers(node, { identities = [] }) {
  const others = identities.slice(1);
  node.hidden = others.length === 0;
  if (node.dataset.shown === JSON.stringify(others)) return;
  node.dataset.shown = JSON.stringify(others);
  const items = others.map((one) =>
    el("li", {}, ...(one.displayName ? [name(one.displayName), " · "] : []), ...aboutWords(one), ` · ${one.role}`),
  );
  node.replaceChildren(el("p", { class: "others-heading" }, "It also asks as"), el("ul", { class: "others" }, ...items));
}

function showChanges(list, sentences) {
  list.hidden = sentences.length === 0;
  if (list.dataset.sentences === JSON.stringify(sentences)) return;
  list.dataset.sentences = JSON.stringify(sentences);
  list.replaceChildren(...sentences.map((one) => el("li", {}, printable(one))));
}
