"""The operators' page in a browser: `make browser` runs the story_*.py files here."""
