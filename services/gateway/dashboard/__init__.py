"""OpenClaw's dashboard, served from a directory."""
