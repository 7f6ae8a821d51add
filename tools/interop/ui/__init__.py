"""The dashboard of OpenClaw in a browser, served by the gateways themselves."""
