"""Disks of a machine: how they are divided, what lies on them, what boots from them."""
