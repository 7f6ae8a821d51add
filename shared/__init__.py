"""What both services build on: the wire, the bus, what they say to each other, logs and health."""
