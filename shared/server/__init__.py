"""Connection handling of both services: accept, limits, sockets and plain HTTP."""
