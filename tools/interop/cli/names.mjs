// Loaded before the command line: adds a name for this machine, like an entry in /etc/hosts, so that
// OpenClaw treats it as remote although all traffic stays on the loopback interface.

import dns from "node:dns";
import { syncBuiltinESMExports } from "node:module";

const NAME = "gateway.test";
const { lookup } = dns;

dns.lookup = (name, ...rest) => lookup(name === NAME ? "127.0.0.1" : name, ...rest);
syncBuiltinESMExports();
