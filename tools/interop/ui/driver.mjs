// Controls a browser over JSON lines: commands on stdin, answers and events on stdout.
//
//   {"id":1,"do":"profile"}                               -> {"id":1,"ok":{"profile":1}}
//   {"id":2,"do":"open","profile":1,"url":"…"}            -> {"id":2,"ok":{"page":1}}
//   {"id":3,"do":"go","page":1,"url":"…"}                 or {"do":"reload","page":1}
//   {"id":4,"do":"see","page":1,"pattern":"^Connected$","seconds":10}
//            waits until a text or title matches; with "selector" only in matching elements,
//            without a pattern until such an element exists; "gone": until nothing matches
//   {"id":5,"do":"click","page":1,"selector":"…"}         or {"do":"fill",…,"text":"…"}
//   {"id":6,"do":"picture","page":1,"path":"….png"}
//            or {"do":"read","page":1,"selector":"…"}     -> {"id":6,"ok":"its text"}
//   {"id":7,"do":"forget","profile":1}                    closes its pages
//
// Events of its socket: {"page":1,"event":"admitted","connection":"…"}, {"page":1,"event":"closed","at":…},
// for the session's agent {"page":1,"event":"agent","busy":true}, and
// for chat messages {"page":1,"event":"sent","call":"…","text":"…"}, then
// {"page":1,"event":"answered","call":"…","error":null or {…}}. "at" is the browser's time, in
// monotonic seconds.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import puppeteer from "puppeteer-core";

const VIEW = { width: 1280, height: 900 };
const POLL_MS = 20;
const LOAD_MS = 60_000;
// As root in a container, Chromium does not start with its sandbox.
const ROOT_ARGS = process.getuid() === 0 ? ["--no-sandbox"] : [];

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  args: [...ROOT_ARGS, "--disable-dev-shm-usage"],
});
const profiles = [];
const pages = [];

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

// Reports when a page's socket is admitted, when an admitted one is closed, and which chat messages
// it sent: what the browser's network layer saw, whatever the page shows.
async function listen(page, number) {
  const session = await page.createCDPSession();
  const admitted = new Set();
  const calls = new Set();
  session.on("Network.webSocketFrameSent", ({ response }) => {
    if (!response.payloadData.includes('"chat.send"')) return;
    const { method, id, params } = JSON.parse(response.payloadData);
    if (method !== "chat.send") return;
    calls.add(id);
    say({ page: number, event: "sent", call: id, text: params.message });
  });
  session.on("Network.webSocketFrameReceived", ({ requestId, response }) => {
    const text = response.payloadData;
    if (text.includes('"hello-ok"')) {
      admitted.add(requestId);
      const { payload } = JSON.parse(text);
      say({ page: number, event: "admitted", connection: payload.server.connId });
    } else if (text.startsWith('{"type":"event","event":"sessions.changed"')) {
      const busy = JSON.parse(text).payload.session?.hasActiveRun;
      if (typeof busy === "boolean") say({ page: number, event: "agent", busy });
    } else if (calls.size > 0 && text.startsWith('{"type":"res"')) {
      const { id, ok, error } = JSON.parse(text);
      if (calls.delete(id)) say({ page: number, event: "answered", call: id, error: ok ? null : error });
    }
  });
  session.on("Network.webSocketClosed", ({ requestId, timestamp }) => {
    if (admitted.delete(requestId)) say({ page: number, event: "closed", at: timestamp });
  });
  await session.send("Network.enable");
  // Each page is a browser of its own, in somebody's hands: without this, a page behind another one
  // is not rendered, and what it receives is not shown until it comes to the front.
  await session.send("Emulation.setFocusEmulationEnabled", { enabled: true });
}

// Runs in the page: returns whether anything matches.
function matches(selector, pattern) {
  const roots = selector ? [...document.querySelectorAll(selector)] : [document.body];
  if (!pattern) return roots.length > 0;
  const wanted = new RegExp(pattern);
  const inside = (node) =>
    [node.nodeType === Node.TEXT_NODE ? node.textContent : node.title].some(
      (text) => typeof text === "string" && wanted.test(text.trim()),
    ) || [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].some(inside);
  return roots.some((root) => root !== null && inside(root));
}

const COMMANDS = {
  async profile() {
    profiles.push(await browser.createBrowserContext());
    return { profile: profiles.length };
  },

  async open({ profile, url }) {
    const page = await profiles[profile - 1].newPage();
    pages.push(page);
    await page.setViewport(VIEW);
    page.setDefaultNavigationTimeout(LOAD_MS);
    await listen(page, pages.length);
    await page.goto(url);
    return { page: pages.length };
  },

  async go({ page, url }) {
    await pages[page - 1].goto(url);
    return true;
  },

  async reload({ page }) {
    await pages[page - 1].reload();
    return true;
  },

  async see({ page, selector = "", pattern = "", gone = false, seconds }) {
    const options = { polling: POLL_MS, timeout: seconds * 1000 };
    const until = `(${gone}) !== (${matches})(${JSON.stringify(selector)}, ${JSON.stringify(pattern)})`;
    await pages[page - 1].waitForFunction(until, options);
    return true;
  },

  async click({ page, selector, timeout }) {
    await pages[page - 1].locator(selector).setTimeout(timeout).click();
    return true;
  },

  async fill({ page, selector, text }) {
    const field = await pages[page - 1].locator(selector).waitHandle();
    // In one step, because a page that re-renders between two keys would lose the first.
    await field.evaluate((input, value) => {
      input.value = value;
      input.dispatchEvent(new InputEvent("input", { bubbles: true }));
    }, text);
    return true;
  },

  async read({ page, selector }) {
    const element = await pages[page - 1].locator(selector).setVisibility(null).waitHandle();
    return element.evaluate((node) => node.textContent.trim());
  },

  async picture({ page, path }) {
    await pages[page - 1].screenshot({ path });
    return true;
  },

  async forget({ profile }) {
    await profiles[profile - 1].close();
    return true;
  },
};

async function carryOut({ id, do: name, ...rest }) {
  try {
    say({ id, ok: await COMMANDS[name](rest) });
  } catch (error) {
    say({ id, error: { message: error.message } });
  }
}

function versionOf(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).version;
}

say({ browser: await browser.version(), driver: `puppeteer-core ${versionOf("puppeteer-core")}` });
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => void carryOut(JSON.parse(line)));
lines.on("close", () => void browser.close().finally(() => process.exit(0)));
