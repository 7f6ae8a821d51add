"""Protocol methods that an admitted client may call, and the presence feed."""
