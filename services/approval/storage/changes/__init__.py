"""Changes: committed atomically, numbered, logged, and repaired if lost."""
