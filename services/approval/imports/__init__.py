"""Import of devices that another system has paired."""
