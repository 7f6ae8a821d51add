"""The doctor at plain OpenClaw gateways."""
