"""Capacity planning: measured costs, derived sizes, and a simulated reconnect storm."""
