"""Settings: declared, read from the environment, and checked at start."""
