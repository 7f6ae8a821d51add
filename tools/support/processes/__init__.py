"""Real processes: Redis, services and whole stacks."""
