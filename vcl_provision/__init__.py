"""The management node of a lab: gives people the machines that they reserved."""

__version__ = "0.2.0"
