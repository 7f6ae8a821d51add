"""What `make run` starts on this machine: Redis, one approval and two gateways.

Nothing here needs more than the standard library. The services are programs like any other: they
are started and asked `/readyz`, never imported.
"""
