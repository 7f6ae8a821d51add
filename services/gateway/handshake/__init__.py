"""The handshake, from challenge to outcome. Pure."""
