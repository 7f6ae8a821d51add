// Search and pagination of a long list; pages are identified by the cursor they start after.

import { byId, say } from "./dom.js";

const TYPING_MS = 250;

/**
 * The search field and the pager of one list; their elements are named `<prefix>-search`,
 * `<prefix>-pager`, `-range`, `-newer`, `-older`. `changed()` is called when the selection changes.
 */
export class Listing {
  /** Cursors after which this page and those before it start; none for the first page. */
  #after = [];
  #next = null;
  #typing = null;
  #search = "";

  constructor(prefix, { size, searchFrom, heading, changed }) {
    this.size = size;
    this.searchFrom = searchFrom;
    this.heading = byId(heading);
    this.changed = changed;
    this.part = (name) => byId(`${prefix}-${name}`);
    this.input = this.part("search");
    this.input.value = "";
    this.input.oninput = () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#searchFor(this.input.value.trim()), TYPING_MS);
    };
    this.part("older").onclick = () => this.#next && this.#turn([...this.#after, this.#next]);
    this.part("newer").onclick = () => this.#turn(this.#after.slice(0, -1));
  }

  get search() {
    return this.#search;
  }

  /** Whether the first page is shown, where new entries appear. */
  get first() {
    return this.#after.length === 0;
  }

  /** The query for the current page. */
  query() {
    const query = new URLSearchParams({ limit: String(this.size) });
    if (this.#search) query.set("q", this.#search);
    if (!this.first) query.set("after", this.#after.at(-1));
    return query;
  }

  /** Show the position in the list. If the page has become empty, go back to the previous one. */
  show(shown, { total, next }) {
    if (!shown && !this.first) {
      this.#after = this.#after.slice(0, -1);
      this.changed();
      return;
    }
    this.#next = next ?? null;
    const field = this.part("search-field");
    if (total >= this.searchFrom || this.#search) field.hidden = false;
    say(this.part("found"), this.#search ? `${total} found` : "");
    this.part("pager").hidden = this.first && !next;
    const before = this.#after.length * this.size;
    say(this.part("range"), shown ? `${before + 1}–${before + shown} of ${Math.max(total, before + shown)}` : "");
    this.part("older").disabled = !next;
    this.part("newer").disabled = this.first;
  }

  #searchFor(text) {
    if (text === this.#search) return;
    this.#search = text;
    this.#after = [];
    this.changed();
  }

  async #turn(after) {
    this.#after = after;
    await this.changed();
    this.heading.focus();
  }
}
