"""One module for each resource: its blueprint, its schemas and its views."""
