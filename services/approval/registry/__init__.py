"""The registry: the one way to read and change device records."""
