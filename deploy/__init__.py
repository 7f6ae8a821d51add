"""Deployment: on this machine (`local`), in containers, behind a proxy."""
