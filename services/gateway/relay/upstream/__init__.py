"""The upstream: sockets to it, calls on the gateway's own behalf, and how it is doing."""
