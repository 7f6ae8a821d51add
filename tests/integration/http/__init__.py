"""The HTTP server that both services use."""
