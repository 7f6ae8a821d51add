"""Pairing records of OpenClaw: reads and writes its state directory."""
