"""Version of the package, which the provenance of every file and model states."""

__version__ = "0.1.0"
