"""What people and tools see: commands, logs, the demo."""
