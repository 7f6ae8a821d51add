"""A real OpenClaw gateway behind Latchkey, and its own dashboard before it."""
