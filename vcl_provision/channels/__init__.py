"""The one way to run a command or move a file: on this machine, or on another over ssh."""
