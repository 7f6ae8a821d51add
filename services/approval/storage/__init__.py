"""Storage in Redis: records, change log, audit log, presence, lock-outs, refusals, sessions."""
