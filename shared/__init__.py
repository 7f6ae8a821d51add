"""Code that both services use: protocol, bus, RPC, server, settings and observability."""
