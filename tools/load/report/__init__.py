"""The report of a run, as text, JSON and HTML, and the live display."""
