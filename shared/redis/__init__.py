"""Speaking to Redis where each message passes: replies as they come, no streams, no pool."""
