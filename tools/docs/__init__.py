"""Generates docs/reference/ from what the code declares (`make docs`)."""
