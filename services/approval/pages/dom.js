// Creates elements and keeps lists of them in sync with data. Text is only inserted as text nodes.

/** Create an element; props are attributes, `on` has listeners. null and false are omitted. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set a text only if it differs, so that screen readers do not repeat it. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Escape invisible and bidirectional control characters in text from devices and people. */
export function printable(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0).toString(16);
    return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`;
  });
}

/** A device's own name, isolated from the text direction around it. */
export const name = (text, props = {}) => el("bdi", props, printable(text));

/**
 * A list whose items keep their element, and so their focus, across updates.
 *
 * `make(item)` returns {node, show(item)}. `refuge` receives the focus of a removed element.
 */
export class KeyedList {
  #views = new Map();

  constructor(container, keyOf, make, refuge) {
    this.container = container;
    this.keyOf = keyOf;
    this.make = make;
    this.refuge = refuge;
  }

  has(key) {
    return this.#views.has(key);
  }

  show(items) {
    const wanted = new Map(items.map((item) => [this.keyOf(item), item]));
    for (const [key, view] of this.#views) {
      if (wanted.has(key)) continue;
      const focused = view.node.contains(document.activeElement);
      view.node.remove();
      this.#views.delete(key);
      if (focused) this.refuge.focus();
    }
    let place = this.container.firstElementChild;
    for (const [key, item] of wanted) {
      let view = this.#views.get(key);
      if (view === undefined) {
        view = this.make(item);
        this.#views.set(key, view);
      }
      view.show(item);
      if (view.node === place) place = place.nextElementSibling;
      else this.container.insertBefore(view.node, place);
    }
  }
}
