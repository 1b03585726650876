"""The command `vcl`."""

from vcl_provision.faces.cli.program import main

__all__ = ["main"]
