"""The version of the package, read by setup.py too: the only place to change for a release."""

__version__ = "0.1.0"
