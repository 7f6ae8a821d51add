"""`make churn`: load for a gateway, by devices that are real: they sign, and were approved before."""
