"""The version of the library, which every report names."""

__version__ = "0.1.0.dev0"
