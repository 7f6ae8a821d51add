// Controls the reference client over JSON lines: commands on stdin, answers, callbacks on stdout.
//
// The client is used unmodified, through its documented interface: it gets options and host
// functions, and its callbacks are forwarded. A "device" is the state that a host stores: the key
// pair, and the device tokens stored by the client.
//
//   {"id":1,"do":"device"}                                  -> {"id":1,"ok":{"device":1,"deviceId":"…"}}
//   {"id":2,"do":"device","like":1}                         a copy with the same key and tokens
//   {"id":3,"do":"connect","device":1,"options":{…}}        -> {"id":3,"ok":{"client":1}}
//   {"id":4,"do":"request","client":1,"method":"health"}    -> {"id":4,"ok":…} or {"id":4,"error":{…}}
//   {"id":5,"do":"stored","device":1,"role":"node"}         -> {"id":5,"ok":{"token":"…","scopes":[]}}
//   {"id":6,"do":"stop","client":1}                         -> {"id":6,"ok":true}
//
// Callbacks: {"client":1,"event":"helloOk"|"connectError"|"paused"|"close"|"log",…}

import { createHash, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { GatewayClient } from "@openclaw/gateway-client";
import { readPairingConnectErrorDetails } from "@openclaw/gateway-protocol/connect-error-details";
import { PROTOCOL_VERSION } from "@openclaw/gateway-protocol/version";

const PACKAGE = "@openclaw/gateway-client";
const RAW_KEY_BYTES = 32;

const devices = [];
const clients = [];

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function rawPublicKey(publicKeyPem) {
  const der = createPublicKey(publicKeyPem).export({ type: "spki", format: "der" });
  return der.subarray(-RAW_KEY_BYTES);
}

function newIdentity() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const publicKeyPem = publicKey.export({ type: "spki", format: "pem" });
  const privateKeyPem = privateKey.export({ type: "pkcs8", format: "pem" });
  const deviceId = createHash("sha256").update(rawPublicKey(publicKeyPem)).digest("hex");
  return { deviceId, publicKeyPem, privateKeyPem };
}

function signature(privateKeyPem, payload, tampered) {
  const bytes = sign(null, Buffer.from(payload, "utf8"), privateKeyPem);
  if (tampered) bytes[0] ^= 1;
  return bytes.toString("base64url");
}

// Provided by the program that embeds the client: signing and storage of device tokens.
function host(device, client, tampered) {
  return {
    signDevicePayload: (pem, payload) => signature(pem, payload, tampered),
    publicKeyRawBase64UrlFromPem: (pem) => rawPublicKey(pem).toString("base64url"),
    loadDeviceAuthToken: ({ role }) => device.tokens.get(role) ?? null,
    storeDeviceAuthToken: ({ role, token, scopes }) => device.tokens.set(role, { token, scopes }),
    clearDeviceAuthToken: ({ role }) => device.tokens.delete(role),
    logError: (text) => say({ client, event: "log", text }),
  };
}

function told(error) {
  const { name, message, gatewayCode, details, retryable, retryAfterMs } = error;
  const pairing = readPairingConnectErrorDetails(details);
  return { name, message, gatewayCode, details, pairing, retryable, retryAfterMs };
}

const COMMANDS = {
  device({ like }) {
    const from = like && devices[like - 1];
    const identity = from ? from.identity : newIdentity();
    devices.push({ identity, tokens: new Map(from?.tokens) });
    return { device: devices.length, deviceId: identity.deviceId };
  },

  connect({ device: number, options, tampered = false }) {
    const device = devices[number - 1];
    const client = clients.length + 1;
    const reference = new GatewayClient({
      minProtocol: PROTOCOL_VERSION,
      maxProtocol: PROTOCOL_VERSION,
      ...options,
      deviceIdentity: device.identity,
      hostDeps: host(device, client, tampered),
      onHelloOk: (hello) => say({ client, event: "helloOk", hello }),
      onConnectError: (error) => say({ client, event: "connectError", ...told(error) }),
      onReconnectPaused: (info) => say({ client, event: "paused", ...info }),
      onClose: (code, reason, { phase }) => say({ client, event: "close", code, reason, phase }),
    });
    clients.push(reference);
    reference.start();
    return { client };
  },

  request: ({ client, method, params = {} }) => clients[client - 1].request(method, params),

  stored: ({ device, role }) => devices[device - 1].tokens.get(role) ?? null,

  async stop({ client }) {
    await clients[client - 1].stopAndWait();
    return true;
  },
};

async function carryOut({ id, do: name, ...rest }) {
  try {
    say({ id, ok: await COMMANDS[name](rest) });
  } catch (error) {
    say({ id, error: told(error) });
  }
}

function versionOf(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).version;
}

say({ name: PACKAGE, version: versionOf(PACKAGE), node: process.versions.node });
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => void carryOut(JSON.parse(line)));
// End with the controlling program.
lines.on("close", () => process.exit(0));
