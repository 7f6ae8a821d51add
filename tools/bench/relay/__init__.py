"""Frames relayed to an upstream: Latchkey beside HAProxy, nginx and no proxy at all."""
