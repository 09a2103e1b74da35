"""The one place the version is written; the build and the User-Agent header read it."""

__version__ = "0.1.0"
