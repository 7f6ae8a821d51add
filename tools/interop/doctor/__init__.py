"""The doctor against real OpenClaw gateways."""
