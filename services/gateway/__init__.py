"""The gateway: owns WebSockets, authenticates clients and asks approval. It stores no state."""
