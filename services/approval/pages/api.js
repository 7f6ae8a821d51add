// API calls with the session cookie, and their errors.

const TRY_MS = 8000;
const HEADERS = { "X-Latchkey-Page": "1" };

/** Return the URL of an API path, below the prefix at which a proxy serves this page. */
export const address = (path) => new URL(`..${path}`, import.meta.url);

/** Offset of the service's clock from this machine's, ms. */
let aheadMs = 0;

/** The service's time, ms since 1970. */
export const now = () => Date.now() + aheadMs;

/** A failed call; `status` is 0 if there was no response. */
export class CallFailed extends Error {
  constructor(status, problem = {}, retryAfterSeconds = 0) {
    super([problem.title, problem.detail].filter(Boolean).join(". ") || "No response");
    this.status = status;
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export async function failure(response) {
  const problem = await response.json().catch(() => ({}));
  return new CallFailed(response.status, problem, Number(response.headers.get("Retry-After") ?? 0));
}

/** Call the API; resolve to the decoded response, or reject with CallFailed. */
export async function call(method, path, body, headers = {}) {
  const sent = { ...HEADERS, ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TRY_MS),
    });
    if (!response.ok) throw await failure(response);
    const date = Date.parse(response.headers.get("Date") ?? "");
    // The header has whole seconds, so it is half a second old on average.
    if (!Number.isNaN(date)) aheadMs = Math.abs(date - Date.now()) > 5000 ? date + 500 - Date.now() : 0;
    return await response.json();
  } catch (error) {
    throw error instanceof CallFailed ? error : new CallFailed(0);
  }
}

export const get = (path) => call("GET", path);

/** Exchange the admin token for a cookie. */
export function signIn(token) {
  // Header values are bytes; non-ASCII tokens are sent as UTF-8.
  const bytes = String.fromCharCode(...new TextEncoder().encode(token.trim()));
  return call("POST", "/v1/session", undefined, { Authorization: `Bearer ${bytes}` });
}

export const signOut = () => call("DELETE", "/v1/session");

const device = (deviceId) => `/v1/devices/${encodeURIComponent(deviceId)}`;
const request = (requestId) => `/v1/requests/${encodeURIComponent(requestId)}`;

/** Approve a request; without `allowAdmin` the call fails if it would grant operator.admin. */
export const approve = (requestId, allowAdmin) => call("POST", `${request(requestId)}/approve`, { allowAdmin });
export const rejectAll = (requestIds) => call("POST", "/v1/requests/reject", { requestIds });
export const reject = (requestId) => call("POST", `${request(requestId)}/reject`);
export const rename = (deviceId, label) => call("PATCH", device(deviceId), { label });
export const remove = (deviceId) => call("DELETE", device(deviceId));
export const rotate = (deviceId, role) => call("POST", `${device(deviceId)}/tokens/${role}/rotate`);
export const revoke = (deviceId, role) => call("POST", `${device(deviceId)}/tokens/${role}/revoke`);
