"""Worker processes: what each does, and how the coordinator talks to them."""
