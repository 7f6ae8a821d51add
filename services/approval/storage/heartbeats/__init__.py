"""What heartbeats report and extend: presence, refusals, addresses and leases."""
