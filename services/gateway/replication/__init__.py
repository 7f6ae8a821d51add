"""What a gateway knows of the store and reports to it: changes, presence, refusals. Pure."""
