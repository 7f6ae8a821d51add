// Loaded before the command line: one more name for this machine, as /etc/hosts could give it, so
// that an address is a remote one to OpenClaw and still nothing leaves the loopback interface.

import dns from "node:dns";
import { syncBuiltinESMExports } from "node:module";

const NAME = "gateway.test";
const { lookup } = dns;

dns.lookup = (name, ...rest) => lookup(name === NAME ? "127.0.0.1" : name, ...rest);
syncBuiltinESMExports();
