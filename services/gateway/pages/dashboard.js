// Runs in OpenClaw's dashboard before the dashboard's own scripts.
//
// The dashboard may stand below a path such as /openclaw/ that a proxy takes away before the gateway
// sees it. `data-depth` of this script's element says how many slashes the path had at the gateway, 0
// for "/" itself. What the browser's path has before those is the prefix.
(() => {
  const depth = Number(document.currentScript.dataset.depth);
  const { pathname, search, hash, origin } = location;
  if (depth === 0 && !pathname.endsWith("/")) {
    // Below "/openclaw", "./assets" would mean "/assets"; below "/openclaw/" it does not.
    location.replace(`${pathname}/${search}${hash}`);
    return;
  }
  const prefix = pathname.split("/").slice(0, -Math.max(depth, 1)).join("/");
  if (prefix) {
    window.__OPENCLAW_CONTROL_UI_BASE_PATH__ = prefix;
    document.documentElement.setAttribute("data-openclaw-control-ui-base-path", prefix);
  }

  const own = origin.replace(/^http/, "ws");

  /** Where this page's gateway listens: the dashboard asks at /openclaw, proxies route /openclaw/. */
  function socketAddress(given) {
    if (!URL.canParse(given, location.href)) return given;
    const url = new URL(given, location.href);
    if (url.origin === own && pathname.startsWith(`${url.pathname}/`)) url.pathname += "/";
    return url.href;
  }

  /** Say where a person approves this browser: the dashboard's own words do not. */
  function follow(socket) {
    const hear = ({ data }) => {
      const frame = typeof data === "string" && data.startsWith("{") ? JSON.parse(data) : {};
      if (frame.type !== "res") return;
      socket.removeEventListener("message", hear);
      const details = frame.error?.details ?? {};
      if (details.code === "PAIRING_REQUIRED") tell(details);
      else document.getElementById("latchkey-approval")?.remove();
    };
    socket.addEventListener("message", hear);
  }

  function tell({ approvalUrl, requestId }) {
    if (!/^https?:\/\//.test(approvalUrl)) return;
    const link = document.createElement("a");
    link.href = `${approvalUrl}/setup`;
    link.textContent = link.href;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.style.color = "inherit";
    const notice = document.getElementById("latchkey-approval") ?? document.createElement("p");
    notice.id = "latchkey-approval";
    notice.setAttribute("role", "status");
    notice.style.cssText =
      "position:fixed;z-index:2147483647;left:0;right:0;bottom:0;margin:0;padding:.75rem 1rem;" +
      "background:#1c2430;color:#fff;font:14px/1.5 system-ui,sans-serif;text-align:center;" +
      "overflow-wrap:anywhere";
    notice.replaceChildren("This gateway's devices are approved at ", link, `. Request ${requestId}`);
    document.body.append(notice);
  }

  const Plain = window.WebSocket;
  window.WebSocket = class WebSocket extends Plain {
    constructor(url, ...protocols) {
      super(socketAddress(url), ...protocols);
      if (new URL(this.url).origin === own) follow(this);
    }
  };
})();
