"""Directed scenarios: for each rule, the situation in which only that rule prevents a violation.

Each passes with the real parts, and breaks an invariant without its rule (`test_rules.py`).
"""
