"""Readers of a finished output directory: DuckDB views and queries, the audit, the report, and a device's timeline."""
