"""The relay: connects admitted clients to a real OpenClaw gateway, the upstream."""
