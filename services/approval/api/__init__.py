"""The operators' HTTP API and page."""
