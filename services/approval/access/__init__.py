"""Who may use the HTTP API: admin tokens, browser sessions and the checks on them."""
