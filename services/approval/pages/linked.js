// Shows what a link leads to: `#request=ID` or `#device=ID`, as in notifications.

import { byId, say } from "./dom.js";

const ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

const NOTES = {
  request: "The request that the link leads to is no longer pending. The audit log says how it ended.",
  device: "The device that the link leads to is not paired.",
};

/** `look()` reads the lists again after the link has changed. */
export class Linked {
  #kind = "";
  #id = "";
  #shown = false;
  #searched = false;

  constructor({ signal, look }) {
    this.look = look;
    this.#read();
    addEventListener("hashchange", () => this.#read() && this.look(), { signal });
  }

  /** Id of the request to list in any case; empty if the link leads to none. */
  get requestId() {
    return this.#kind === "request" ? this.#id : "";
  }

  /** Highlight the card once it is listed; say so if it is not. Called after the lists were read. */
  show() {
    const card = this.#id && document.querySelector(`li[data-${this.#kind}="${CSS.escape(this.#id)}"]`);
    for (const other of document.querySelectorAll(".linked")) other.classList.toggle("linked", other === card);
    if (!this.#id || this.#shown) return;
    if (card) {
      this.#shown = true;
      card.classList.add("linked");
      card.tabIndex = -1;
      card.scrollIntoView({ block: "center" });
      card.focus({ preventScroll: true });
    } else if (this.#kind === "device" && !this.#searched) {
      this.#searched = true;
      const search = byId("devices-search");
      search.value = this.#id;
      search.oninput();
    } else {
      say(byId("linked-note"), NOTES[this.#kind]);
    }
  }

  #read() {
    const [kind, id = ""] = location.hash.slice(1).split("=");
    let decoded = "";
    try {
      decoded = decodeURIComponent(id);
    } catch {
      // not a link of ours
    }
    const known = kind in NOTES && ID.test(decoded);
    this.#kind = known ? kind : "";
    this.#id = known ? decoded : "";
    this.#shown = this.#searched = false;
    say(byId("linked-note"), "");
    return known;
  }
}
