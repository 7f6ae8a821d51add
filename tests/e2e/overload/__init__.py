"""Floods against real services, on a small scale."""
