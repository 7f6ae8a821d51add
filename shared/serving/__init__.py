"""How both services take in connections: accept, limits, deadlines, plain HTTP."""
