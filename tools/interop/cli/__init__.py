"""OpenClaw's command line, and what `openclaw devices` does for an operator."""
