"""How the services are watched: logs, metrics, health."""
