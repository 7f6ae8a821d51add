"""`make run`: start Redis, one approval service and two gateways on this machine.

honcho runs the programs. The services are started, checked through `/readyz` and never
imported.
"""
