"""One WebSocket session: its handler, its context and its access log."""
