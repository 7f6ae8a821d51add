"""Tests of notifications without I/O."""
