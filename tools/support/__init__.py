"""Support code of tools and tests: a stack of real processes, devices and operators."""
