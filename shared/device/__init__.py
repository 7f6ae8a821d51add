"""The client's side of the handshake: identity, profiles, frames (pure) and a socket client."""
