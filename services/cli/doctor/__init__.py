"""`latchkey doctor`: checks each step of a device's connection, at Latchkey or plain OpenClaw."""
