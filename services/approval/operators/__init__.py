"""Named operators: created, listed and revoked."""
