"""Builds the container images and tests docker-compose.yml on a real engine."""
