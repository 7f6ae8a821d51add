"""Drills: many kinds of faults under load from real clients, and what is promised for each."""
