"""The state that real OpenClaw releases wrote."""
