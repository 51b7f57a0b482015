"""The product as Dagster runs it, against the sandbox over HTTP: definitions, runs, tables, checks, secrets, UI."""
