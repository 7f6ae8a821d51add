"""The gateway's side of approval: questions, heartbeats and the messages that come in."""
