"""Disks and machines in the files that hypervisors exchange; what comes from outside is read as if it meant harm."""
