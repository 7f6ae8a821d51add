"""Text for people: words, rows, tables."""
