"""The transport's end of a WebSocket: frames in, frames out."""
