"""The rules of pairing, as pure values and functions."""
