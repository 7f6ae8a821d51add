"""A real OpenClaw gateway behind Latchkey, with its own dashboard."""
