"""Lua scripts: each runs at once in Redis, or not at all."""
