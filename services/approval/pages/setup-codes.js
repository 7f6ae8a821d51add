// Setup codes: creating one with its QR code and the time left, live ones, and revoking them.

import * as api from "./api.js";
import { ask } from "./dialog.js";
import { KeyedList, byId, el, printable, say } from "./dom.js";
import { lengthOf } from "./words.js";

/** How often live codes are read; the code on show is read at each look, so that its end is seen. */
const REREAD_MS = 5000;
const PATH = "/v1/setup-codes";
const path = (code) => `${PATH}/${encodeURIComponent(code.setupId)}`;

const ENDS = { revoked: "This code was revoked.", expired: "This code has expired." };

export class SetupCodes {
  #readAt = -Infinity;
  #shown = null;
  #waitsForDelivery = 0;

  /** `announce(text)` informs users of screen readers. */
  constructor({ announce, signal }) {
    this.announce = announce;
    this.list = new KeyedList(
      byId("setup-codes"),
      (one) => one.setupId,
      (one) => this.#card(one),
      byId("setup-codes-heading"),
    );
    byId("setup-code-form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        this.#create();
      },
      { signal },
    );
    byId("setup-code-copy").addEventListener("click", () => this.#copy(), { signal });
    byId("setup-codes-revoke-all").addEventListener("click", () => this.#revokeAll(), { signal });
    this.#hide();
  }

  /** Read the live codes and the one on show. Rejects with CallFailed. */
  async look() {
    await this.#follow();
    if (performance.now() - this.#readAt >= REREAD_MS) await this.#read();
  }

  async #read() {
    try {
      const { setupCodes } = await api.get(PATH);
      this.#readAt = performance.now();
      byId("no-setup-codes").hidden = setupCodes.length > 0;
      byId("setup-codes-revoke-all").hidden = setupCodes.length < 2;
      this.list.show(setupCodes);
    } catch (error) {
      if (error.status !== 404) throw error; // a replica of an earlier release without setup codes
      this.#readAt = performance.now();
    }
  }

  async #create() {
    const button = byId("setup-code-create");
    button.disabled = true;
    say(byId("setup-code-problem"), "");
    const profile = byId("setup-code-profile").value;
    try {
      const made = await api.call("POST", PATH, { profile, joinUrl: profile === "node" });
      this.#show(made);
      await this.#read();
    } catch (error) {
      say(byId("setup-code-problem"), `${error.message}.`);
    } finally {
      button.disabled = false;
    }
  }

  #show(made) {
    this.#shown = made.created;
    this.#waitsForDelivery = 5;
    const isNode = made.created.profile === "node";
    byId("setup-code").hidden = false;
    byId("setup-code-secret").hidden = false;
    const image = byId("setup-code-qr");
    image.hidden = isNode || made.qrDataUrl === undefined;
    image.src = made.qrDataUrl ?? "";
    say(byId("setup-code-how"), isNode ? "Run one of these on the node:" : "Scan this with the OpenClaw app, or paste the setup code there.");
    const commands = [];
    if (made.joinUrl) commands.push(`npx openclaw connect ${made.joinUrl}`);
    if (isNode) commands.push(`openclaw node run --pair "oc-pair://${made.setupCode}"`);
    byId("setup-code-commands").hidden = !isNode;
    byId("setup-code-commands").replaceChildren(...commands.map((one) => el("li", {}, el("code", {}, printable(one)))));
    byId("setup-code-text").value = made.setupCode;
    const lowered = made.created.accessDowngraded ? " It was lowered by the gateway's address or by SETUP_CODE_ACCESS." : "";
    say(byId("setup-code-access"), `Access: ${made.created.access}.${lowered} Gateway: ${printable(made.created.gatewayUrl)}`);
    this.#tick();
    byId("setup-code-heading").focus();
  }

  /** Show what has become of the code on show, until it ends. */
  async #follow() {
    if (this.#shown === null) return;
    const code = await api.get(path(this.#shown)).catch((error) => {
      if (error.status === 404) return { ...this.#shown, state: "expired" };
      throw error;
    });
    if (this.#shown === null || code.setupId !== this.#shown.setupId) return;
    if (code.state === "live" || code.state === "bound") {
      this.#shown = code;
      this.#tick();
    } else if (code.state === "used" && !code.delivered && this.#waitsForDelivery > 0) {
      this.#waitsForDelivery -= 1;
    } else {
      this.#end(code);
    }
  }

  #tick() {
    const left = lengthOf(Math.max(0, this.#shown.expiresAtMs - api.now()));
    const who = this.#shown.state === "bound" ? "A device has presented this code and waits for approval. " : "";
    say(byId("setup-code-state"), `${who}Works once, for another ${left}.`);
  }

  #end(code) {
    const name = code.deviceName ? `: ${printable(code.deviceName)}` : "";
    const uncertain = code.delivered ? "" : " It may not have received its tokens; if it does not connect, create another code.";
    const text = code.state === "used" ? `Device paired${name}.${uncertain}` : ENDS[code.state];
    this.#hide();
    byId("setup-code").hidden = false;
    say(byId("setup-code-state"), text);
    this.announce(text);
    this.#readAt = -Infinity;
  }

  /** Remove the code and its image from the page. */
  #hide() {
    this.#shown = null;
    byId("setup-code").hidden = true;
    byId("setup-code-secret").hidden = true;
    byId("setup-code-qr").removeAttribute("src");
    byId("setup-code-text").value = "";
    byId("setup-code-commands").replaceChildren();
    say(byId("setup-code-problem"), "");
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(byId("setup-code-text").value);
      this.announce("The setup code was copied.");
    } catch {
      byId("setup-code-text").select(); // no permission, or no secure context
    }
  }

  #card(first) {
    const state = el("p", { class: "where" });
    const revoke = () => this.#revoke(first);
    const node = el(
      "li",
      { class: "card", "data-setup-code": first.setupId },
      el("div", { class: "title" }, el("h3", {}, `Access: ${first.access}`), el("span", { class: "badge" }, printable(first.createdBy))),
      state,
      el(
        "div",
        { class: "actions decides" },
        el("button", { type: "button", class: "small", "aria-label": `Revoke setup code ${first.setupId}`, on: { click: revoke } }, "Revoke"),
      ),
    );
    const show = (code) => {
      const left = lengthOf(Math.max(0, code.expiresAtMs - api.now()));
      const who = code.state === "bound" ? `bound to ${printable(code.deviceName || code.deviceId.slice(0, 12))}` : "not used yet";
      say(state, `${code.setupId}: ${who}, for another ${left}.`);
    };
    return { node, show };
  }

  #revoke(code) {
    ask({
      heading: "Revoke this setup code?",
      paragraphs: ["No device can pair with it any more, at any replica. Devices that are paired stay paired."],
      yes: "Revoke",
      danger: true,
      onYes: async () => {
        await api.call("POST", `${path(code)}/revoke`).catch((error) => {
          if (error.status !== 404) throw error; // it has ended meanwhile
        });
        await this.#read();
        await this.#follow();
        this.announce("The setup code was revoked.");
      },
    });
  }

  #revokeAll() {
    ask({
      heading: "Revoke all setup codes?",
      paragraphs: ["No device can pair with any of them any more. Devices that are paired stay paired."],
      yes: "Revoke all",
      danger: true,
      onYes: async () => {
        await api.call("POST", "/v1/setup-code-revocations");
        await this.#read();
        await this.#follow();
        this.announce("All setup codes were revoked.");
      },
    });
  }
}
