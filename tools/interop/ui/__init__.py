"""OpenClaw's dashboard in a browser, served by the gateways."""
