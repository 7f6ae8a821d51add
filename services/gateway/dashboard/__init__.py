"""Serving OpenClaw's dashboard from a directory."""
