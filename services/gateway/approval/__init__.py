"""The gateway's client of approval: requests, heartbeats and incoming messages."""
