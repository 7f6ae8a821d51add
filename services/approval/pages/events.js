// Follows the audit log as server-sent events. It uses fetch instead of EventSource, to distinguish
// refusals from lost connections, detect silent connections and receive events of any name.

import { CallFailed, address, failure } from "./api.js";

const RETRY_MS = 1000;
/** The service sends something every 15 s; a stream that is silent for this long is dead. */
const SILENCE_MS = 40000;
/** A hidden page closes its connection, because browsers allow six per address. */
const HIDDEN_MS = 30000;

/** Split the text of a stream into events {id, name, data}; `data` is "" if there is none. */
export function parser(onEvent) {
  let rest = "";
  return (text) => {
    rest += text;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { id: null, name: "message", data: "" };
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        const [field, value] = [line.slice(0, colon), line.slice(colon + 1).trimStart()];
        if (field === "id") event.id = Number(value);
        else if (field === "event") event.name = value;
        else if (field === "data") event.data = value;
      }
      if (event.id !== null) onEvent(event);
    }
  };
}

/**
 * Follow the events until `signal` aborts, reconnecting after the last event received.
 * While the page is hidden, the connection is closed unless `stays()`.
 * `onBreak(CallFailed)` is called for each lost connection, `onBegin(id)` for each new start.
 */
export async function follow({ signal, stays = () => false, onBegin, onEvent, onBreak }) {
  let last = null;
  while (!signal.aborted) {
    if (!stays()) await seen();
    try {
      await listen(last, signal, stays, (event) => {
        const begins = event.data === "";
        last = event.id;
        if (begins) onBegin(event.id);
        else onEvent(event);
      });
      throw new CallFailed(0);
    } catch (error) {
      if (signal.aborted) return;
      onBreak(error instanceof CallFailed ? error : new CallFailed(0));
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Resolve once the page is visible. */
async function seen() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

async function listen(last, signal, stays, onEvent) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  let unseen = null;
  const look = () => {
    clearTimeout(unseen);
    unseen = document.hidden ? setTimeout(() => stays() || silence.abort(), HIDDEN_MS) : null;
  };
  document.addEventListener("visibilitychange", look);
  look();
  try {
    const response = await fetch(address("/v1/events"), {
      headers: last === null ? {} : { "Last-Event-ID": String(last) },
      signal: AbortSignal.any([signal, silence.signal]),
    });
    if (!response.ok) throw await failure(response);
    const parse = parser(onEvent);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      parse(value);
    }
  } finally {
    document.removeEventListener("visibilitychange", look);
    clearTimeout(unseen);
    clearTimeout(timer);
  }
}
