"""The connections of one replica: the hub, pending handshakes, sweeps and closing."""
