"""The OpenClaw gateway wire, protocols 3 and 4: pure values and functions, no I/O."""
