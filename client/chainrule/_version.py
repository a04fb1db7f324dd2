"""The client's version, in the one place that the package, its user agent and its command read it from."""

__version__ = "0.1.0"
