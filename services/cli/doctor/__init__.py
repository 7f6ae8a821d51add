"""`latchkey doctor`: check each step of a device's connection to Latchkey or plain OpenClaw."""
