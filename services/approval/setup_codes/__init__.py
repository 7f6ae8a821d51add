"""Setup codes: created, listed and revoked by operators; used by devices."""
