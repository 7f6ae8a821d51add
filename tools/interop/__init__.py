"""`make interop`: runs OpenClaw's published clients against what `make run` starts."""
