"""`make run`: start Redis, one approval service and two gateways on this machine.

This package uses only the standard library. The services run as separate programs, checked through
`/readyz` and never imported.
"""
