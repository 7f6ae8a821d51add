"""Changes: committed at once, numbered, logged, and repaired if lost."""
