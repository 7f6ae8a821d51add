"""The two services: the gateway owns sockets, approval decides. Neither imports the other."""
