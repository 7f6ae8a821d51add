"""JSON objects of the HTTP API."""
