"""The command `latchkey`: what a person does at a terminal, over approval's HTTP API alone."""
