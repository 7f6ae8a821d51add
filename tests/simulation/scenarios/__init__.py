"""Directed scenarios: for each rule, the situation in which it is all that stands in the way.

Each passes with the real parts, and breaks an invariant without its rule (`test_rules.py`).
"""
