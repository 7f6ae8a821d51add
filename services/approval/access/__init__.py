"""Access to the HTTP API: admin tokens, browser sessions and protection against CSRF."""
