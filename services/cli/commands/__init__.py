"""The commands of `latchkey`, one module each."""
