"""Every question to PostgreSQL, each in a function named for what it asks."""
