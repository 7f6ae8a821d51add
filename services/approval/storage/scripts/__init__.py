"""Lua scripts, each of which Redis runs atomically."""
