"""Monitoring of the services: logs, metrics and health."""
