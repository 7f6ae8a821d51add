"""Capacity planning: measured costs and storms, and the sizes derived from them."""
