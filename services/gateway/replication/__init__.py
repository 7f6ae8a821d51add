"""The gateway's replicated state and its reports: changes, presence, refusals. Pure."""
