"""`python -m tools.kubernetes`, part of `make docs`: write the schema of the chart's settings."""

from __future__ import annotations

from tools.kubernetes.chart import SCHEMA, schema_text

if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
