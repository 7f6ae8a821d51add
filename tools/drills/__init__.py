"""Drills: every fault we can think of, with real clients, and what was promised for each."""
