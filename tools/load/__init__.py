"""`make churn`: puts load on a gateway with approved devices that sign their handshakes."""
