"""Approval rules: kept, applied and tried out."""
