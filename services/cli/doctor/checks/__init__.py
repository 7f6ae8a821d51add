"""The doctor's checks, one module for each part of the way to a gateway."""
