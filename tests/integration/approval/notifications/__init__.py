"""Tests of notifications with a real Redis and a real receiver."""
