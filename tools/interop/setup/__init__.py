"""Setup codes, with the unmodified command line as the one that creates and the one that pairs."""
