"""Notifications: signed webhooks about waiting devices, decisions, lock-outs and lost history."""
