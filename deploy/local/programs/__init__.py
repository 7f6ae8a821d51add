"""The programs that `make run` starts, and their supervision."""
