"""Programs around the relay: OpenClaw's gateway, node hosts and command line, and a model."""
