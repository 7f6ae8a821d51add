"""The reference client library of the protocol, and the cases of one device run with it."""
