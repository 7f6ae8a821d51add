"""Clients that are held until they are approved, with `GATEWAY_WAIT_SECONDS`."""
