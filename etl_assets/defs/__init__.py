"""Orchestration: the only package that imports dagster. The work itself is done by the library around it."""
