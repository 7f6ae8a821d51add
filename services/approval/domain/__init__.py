"""Pairing rules as pure values and functions."""
