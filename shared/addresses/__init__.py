"""Addresses: of clients behind proxies, and as people type them."""
