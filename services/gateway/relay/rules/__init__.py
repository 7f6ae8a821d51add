"""What the relay changes, passes on and refuses. Pure."""
