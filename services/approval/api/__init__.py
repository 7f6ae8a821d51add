"""HTTP API and page for operators."""
