"""How both services take in connections: accept, limits, sockets and plain HTTP."""
