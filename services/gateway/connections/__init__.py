"""The connections of one replica: the hub, pending handshakes, presence and closing."""
