"""A lab of one's own on this machine: brought up, found again, taken down."""
