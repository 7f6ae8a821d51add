"""The registry: the only access path to device records."""
