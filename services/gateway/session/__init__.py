"""One WebSocket's life: its handler, its context and its access log."""
