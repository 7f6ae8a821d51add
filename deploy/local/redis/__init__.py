"""The Redis of `make run`: found, fetched, configured and checked."""
