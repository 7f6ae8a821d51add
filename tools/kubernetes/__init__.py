"""Renders and checks the Helm chart in deploy/kubernetes/."""
