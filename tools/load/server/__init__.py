"""The servers under load: addresses, pairing, and what they use."""
