"""The version of the package, which every output carries."""

__version__ = "0.1.0"
