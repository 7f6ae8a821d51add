// Runs in OpenClaw's dashboard before the dashboard's own scripts.
//
// The dashboard may be served below a path such as /openclaw/ that a proxy strips before the gateway
// sees it. The `data-depth` attribute of this script element is the number of slashes in the path at
// the gateway, 0 for "/". The part of the browser's path before those is the prefix.
(() => {
  const depth = Number(document.currentScript.dataset.depth);
  const { pathname, search, hash, origin } = location;
  if (depth === 0 && !pathname.endsWith("/")) {
    // Relative to "/openclaw", "./assets" resolves to "/assets"; "/openclaw/" needs the slash.
    location.replace(`${pathname}/${search}${hash}`);
    return;
  }
  const prefix = pathname.split("/").slice(0, -Math.max(depth, 1)).join("/");
  if (prefix) {
    window.__OPENCLAW_CONTROL_UI_BASE_PATH__ = prefix;
    document.documentElement.setAttribute("data-openclaw-control-ui-base-path", prefix);
  }

  const own = origin.replace(/^http/, "ws");

  /** Add the slash that proxies need: the dashboard connects to /openclaw, not /openclaw/. */
  function socketAddress(given) {
    if (!URL.canParse(given, location.href)) return given;
    const url = new URL(given, location.href);
    if (url.origin === own && pathname.startsWith(`${url.pathname}/`)) url.pathname += "/";
    return url.href;
  }

  /** Show where to approve this browser; the dashboard's own message does not say. */
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
    notice.replaceChildren("Approve this gateway's devices at ", link, `. Request ${requestId}`);
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
