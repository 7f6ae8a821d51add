"""The command `latchkey`: a client of approval's HTTP API for operators at a terminal."""
