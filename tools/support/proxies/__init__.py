"""Proxies that imitate faults."""
