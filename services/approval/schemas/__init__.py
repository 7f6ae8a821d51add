"""The JSON objects that the HTTP API and the command exchange."""
