"""The doctor at real OpenClaw gateways."""
