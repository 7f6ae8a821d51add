"""`make interop`: the reference client of the protocol, as published, against what `make run` starts."""
