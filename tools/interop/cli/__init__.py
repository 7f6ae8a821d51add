"""The command line of OpenClaw, and what `openclaw devices` does for an operator."""
