"""Backup and restore of all paired devices."""
