"""Requests and responses over the bus: messages, retries and responders."""
