"""The OpenClaw gateway protocol, versions 3 and 4: pure values and functions, no I/O."""
