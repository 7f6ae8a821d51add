"""Low-overhead Redis access: no streams, no pool, replies processed as they arrive."""
