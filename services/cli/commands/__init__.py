"""The subcommands of `latchkey`."""
