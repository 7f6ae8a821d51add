"""Requests from gateways over the bus: admission, device methods and heartbeats."""
