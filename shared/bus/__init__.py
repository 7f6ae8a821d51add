"""The bus: sealed messages between replicas over Redis pub/sub; only `redis.py` does I/O."""
