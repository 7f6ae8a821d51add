// Keeps a list in place under the pointer while entries are added above.

/** How long cards that had to move ignore clicks. */
const SETTLING_MS = 400;
const MOVED_PX = 4;

/**
 * Change a list by `change()`. The card that is hovered, focused or scrolled to keeps its place in
 * the window. If cards move anyway, call `settle(true)`, and `settle(false)` after a moment without
 * movement.
 */
export function keepStill(list, change, settle) {
  const kept = anchorOf(list);
  const seen = [...list.children].filter(isVisible).map((node) => [node, node.getBoundingClientRect().top]);
  const before = kept?.getBoundingClientRect().top;
  change();
  if (kept?.isConnected) {
    const by = kept.getBoundingClientRect().top - before;
    if (by) scrollBy({ top: by, behavior: "instant" });
  }
  const moved = seen.some(
    ([node, top]) => node.isConnected && Math.abs(node.getBoundingClientRect().top - top) > MOVED_PX,
  );
  if (!moved) return;
  settle(true);
  clearTimeout(timers.get(list));
  timers.set(list, setTimeout(() => settle(false), SETTLING_MS));
}

const timers = new WeakMap();

/** Whether a card is hovered, focused or opened. */
export const inUse = (node) =>
  node.matches(":hover") || node.contains(document.activeElement) || Boolean(node.querySelector("details[open]")?.checkVisibility());

function anchorOf(list) {
  const cards = [...list.children];
  const used = cards.find((node) => node.matches(":hover")) ?? cards.find((node) => node.contains(document.activeElement));
  if (used) return used;
  return scrollY > 0 ? cards.find(isVisible) : undefined;
}

function isVisible(node) {
  const { top, bottom } = node.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}
