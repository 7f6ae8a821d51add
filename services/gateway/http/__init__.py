"""HTTP in the gateway: WebSocket upgrades, connection limits and plain routes."""
