"""The doctor's checks, one module for each part of a connection."""
