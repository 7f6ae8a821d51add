"""The load's side of a connection: dialing, wire format, and what the gateway decided."""
