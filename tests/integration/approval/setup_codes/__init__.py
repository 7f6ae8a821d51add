"""Setup codes at two replicas over a real Redis."""
