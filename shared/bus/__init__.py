"""The bus: sealed messages between replicas over Redis pub/sub; only `redis_bus` does I/O."""
