"""The gateway's HTTP: first bytes, upgrade requests, limits and plain routes."""
