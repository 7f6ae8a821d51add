"""Import from a real OpenClaw, and export to it."""
