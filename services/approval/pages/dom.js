// Makes elements, and keeps lists of them in step with data. Text only ever becomes text nodes.

/** Make an element; props are attributes, but `on` holds listeners. null and false are left out. */
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

/** Change a text only when it is another one, so that nothing is read out twice. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show what a device or a person wrote: what is invisible or turns the writing stands escaped. */
export function printable(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0).toString(16);
    return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`;
  });
}

/** A name that a device gave itself, kept apart from the direction of the text around it. */
export const name = (text, props = {}) => el("bdi", props, printable(text));

/**
 * A list whose items keep their element, and so their focus, from one telling to the next.
 *
 * `make(item)` returns {node, show(item)}. `refuge` gets the focus of an element that goes.
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
