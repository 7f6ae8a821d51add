"""The gateway: owns sockets, proves who is there, asks approval. It keeps no state."""
