"""The doctor's checks for plain OpenClaw gateways."""
