"""The reference client of the protocol, as a library, and the story of one device told with it."""
