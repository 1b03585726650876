"""What can be loaded: where it lies, in which format, and what a machine is told at its first boot."""
