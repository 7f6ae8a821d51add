"""The WebSocket wire format: parsing and building frames."""
